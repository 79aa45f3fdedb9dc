//! The Fréchet distance between two Gaussians (Heusel et al. 2017, "FID"), here on the
//! recogniser's features instead of Inception's.

/// Mean and covariance of features, in f64.
#[derive(Clone, Debug)]
pub(super) struct Gaussian {
    mean: Vec<f64>,
    /// `[n,n]`, row by row.
    covariance: Vec<f64>,
}

impl Gaussian {
    /// Of features of one length; the covariance is the unbiased one. `None` with fewer than two.
    pub(super) fn of<'a>(features: impl Iterator<Item = &'a [f32]> + Clone) -> Option<Self> {
        let n = features.clone().next()?.len();
        let mut count = 0usize;
        let mut mean = vec![0.0; n];
        for f in features.clone() {
            count += 1;
            for (m, &v) in mean.iter_mut().zip(f) {
                *m += f64::from(v);
            }
        }
        if count < 2 {
            return None;
        }
        mean.iter_mut().for_each(|m| *m /= count as f64);
        let mut covariance = vec![0.0; n * n];
        let mut centred = vec![0.0; n];
        for f in features {
            for ((c, &v), m) in centred.iter_mut().zip(f).zip(&mean) {
                *c = f64::from(v) - m;
            }
            for (row, &a) in covariance.chunks_exact_mut(n).zip(&centred) {
                for (x, &b) in row.iter_mut().zip(&centred) {
                    *x += a * b;
                }
            }
        }
        let scale = 1.0 / (count - 1) as f64;
        covariance.iter_mut().for_each(|x| *x *= scale);
        Some(Self { mean, covariance })
    }
}

/// A Gaussian that others are compared with: the root of its covariance is found once.
#[derive(Clone, Debug)]
pub(super) struct ReferenceGaussian {
    gaussian: Gaussian,
    root: Vec<f64>,
}

impl ReferenceGaussian {
    /// The Gaussian with the root of its covariance, which every comparison with it needs.
    pub(super) fn new(gaussian: Gaussian) -> Self {
        let n = gaussian.mean.len();
        let (values, vectors) = eigen(&gaussian.covariance, n);
        let mut root = vec![0.0; n * n];
        for (k, value) in values.iter().enumerate() {
            let value = value.max(0.0).sqrt();
            for i in 0..n {
                let scaled = value * vectors[i * n + k];
                for j in 0..n {
                    root[i * n + j] += scaled * vectors[j * n + k];
                }
            }
        }
        Self { gaussian, root }
    }

    /// |m - m'|² + tr(C + C' - 2 (C C')^½). The last is the sum of the roots of the eigenvalues of
    /// C^½ C' C^½, which is symmetric.
    pub(super) fn distance(&self, other: &Gaussian) -> f64 {
        let n = self.gaussian.mean.len();
        let between: f64 = self
            .gaussian
            .mean
            .iter()
            .zip(&other.mean)
            .map(|(a, b)| (a - b).powi(2))
            .sum();
        let trace = |m: &[f64]| (0..n).map(|i| m[i * n + i]).sum::<f64>();
        let inner = product(&product(&self.root, &other.covariance, n), &self.root, n);
        let shared: f64 = eigenvalues(inner, n)
            .iter()
            .map(|v| v.max(0.0).sqrt())
            .sum();
        let distance =
            between + trace(&self.gaussian.covariance) + trace(&other.covariance) - 2.0 * shared;
        // Rounding may leave a little less than nothing.
        distance.max(0.0)
    }
}

fn product(a: &[f64], b: &[f64], n: usize) -> Vec<f64> {
    let mut out = vec![0.0; n * n];
    for (row, to) in a.chunks_exact(n).zip(out.chunks_exact_mut(n)) {
        for (&x, line) in row.iter().zip(b.chunks_exact(n)) {
            for (t, &y) in to.iter_mut().zip(line) {
                *t += x * y;
            }
        }
    }
    out
}

/// Eigenvalues of a symmetric matrix: Householder's reduction to three diagonals (Golub and Van
/// Loan, algorithm 8.3.1), then bisection on Sturm sequences (section 8.4.1), which always
/// converges.
fn eigenvalues(mut a: Vec<f64>, n: usize) -> Vec<f64> {
    for k in 0..n.saturating_sub(2) {
        let below: Vec<f64> = (k + 1..n).map(|i| a[i * n + k]).collect();
        let length = below.iter().map(|x| x * x).sum::<f64>().sqrt();
        if length == 0.0 {
            continue;
        }
        let mut v = below;
        v[0] += if v[0] < 0.0 { -length } else { length };
        let square: f64 = v.iter().map(|x| x * x).sum();
        // A' = (I - 2vv'/v'v) A (I - 2vv'/v'v) on the part below and right of k.
        let m = v.len();
        let at = |i: usize, j: usize| (k + 1 + i) * n + k + 1 + j;
        let mut p: Vec<f64> = (0..m)
            .map(|i| {
                let row = &a[at(i, 0)..at(i, 0) + m];
                2.0 / square * row.iter().zip(&v).map(|(x, y)| x * y).sum::<f64>()
            })
            .collect();
        let half = p.iter().zip(&v).map(|(x, y)| x * y).sum::<f64>() / square;
        p.iter_mut().zip(&v).for_each(|(p, v)| *p -= half * v);
        for (i, (vi, pi)) in v.iter().zip(&p).enumerate() {
            let row = &mut a[at(i, 0)..at(i, 0) + m];
            for ((x, vj), pj) in row.iter_mut().zip(&v).zip(&p) {
                *x -= vi * pj + pi * vj;
            }
        }
        let side = if v[0] < 0.0 { length } else { -length };
        a[(k + 1) * n + k] = side;
    }
    let diagonal: Vec<f64> = (0..n).map(|i| a[i * n + i]).collect();
    let squares: Vec<f64> = (1..n).map(|i| a[i * n + i - 1].powi(2)).collect();
    let reach = (0..n)
        .map(|i| {
            let left = if i > 0 { squares[i - 1].sqrt() } else { 0.0 };
            let right = if i + 1 < n { squares[i].sqrt() } else { 0.0 };
            diagonal[i].abs() + left + right
        })
        .fold(0.0, f64::max);
    (0..n)
        .map(|index| {
            let (mut low, mut high) = (-reach, reach);
            for _ in 0..60 {
                let middle = 0.5 * (low + high);
                if smaller(&diagonal, &squares, middle) > index {
                    high = middle;
                } else {
                    low = middle;
                }
            }
            0.5 * (low + high)
        })
        .collect()
}

/// How many eigenvalues of a matrix of three diagonals are below `x`; `squares` are those of the
/// outer diagonals.
fn smaller(diagonal: &[f64], squares: &[f64], x: f64) -> usize {
    let mut q = diagonal.first().map_or(1.0, |d| d - x);
    let mut count = usize::from(q < 0.0);
    for (d, square) in diagonal[1.min(diagonal.len())..].iter().zip(squares) {
        let safe = if q == 0.0 { f64::EPSILON } else { q };
        q = d - x - square / safe;
        count += usize::from(q < 0.0);
    }
    count
}

/// Eigenvalues and eigenvectors (as columns) of a symmetric matrix, by Jacobi's cyclic rotations
/// (Golub and Van Loan, section 8.5): slow for large matrices, and never wrong.
fn eigen(matrix: &[f64], n: usize) -> (Vec<f64>, Vec<f64>) {
    const SWEEPS: usize = 60;
    let mut a = matrix.to_vec();
    // Rows of `v` are the vectors until the end, so that a rotation runs along memory.
    let mut v = vec![0.0; n * n];
    for i in 0..n {
        v[i * n + i] = 1.0;
    }
    let scale: f64 = a.iter().map(|x| x * x).sum::<f64>().sqrt();
    for _ in 0..SWEEPS {
        let off: f64 = (0..n)
            .flat_map(|i| (0..i).map(move |j| (i, j)))
            .map(|(i, j)| a[i * n + j].powi(2))
            .sum();
        if off.sqrt() <= 1e-12 * scale {
            break;
        }
        for p in 0..n {
            for q in p + 1..n {
                let apq = a[p * n + q];
                if apq.abs() <= 1e-16 * scale {
                    continue;
                }
                let theta = (a[q * n + q] - a[p * n + p]) / (2.0 * apq);
                let t = theta.signum() / (theta.abs() + (theta * theta + 1.0).sqrt());
                let t = if theta == 0.0 { 1.0 } else { t };
                let c = 1.0 / (t * t + 1.0).sqrt();
                let s = t * c;
                rotate_rows(&mut a, n, p, q, c, s);
                for k in 0..n {
                    let (x, y) = (a[k * n + p], a[k * n + q]);
                    a[k * n + p] = c * x - s * y;
                    a[k * n + q] = s * x + c * y;
                }
                rotate_rows(&mut v, n, p, q, c, s);
            }
        }
    }
    let values = (0..n).map(|i| a[i * n + i]).collect();
    let mut columns = vec![0.0; n * n];
    for i in 0..n {
        for k in 0..n {
            columns[i * n + k] = v[k * n + i];
        }
    }
    (values, columns)
}

fn rotate_rows(m: &mut [f64], n: usize, p: usize, q: usize, c: f64, s: f64) {
    let (above, below) = m.split_at_mut(q * n);
    let rows = above[p * n..(p + 1) * n].iter_mut().zip(&mut below[..n]);
    for (x, y) in rows {
        (*x, *y) = (c * *x - s * *y, s * *x + c * *y);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gaussian(mean: &[f64], covariance: &[f64]) -> Gaussian {
        Gaussian {
            mean: mean.to_vec(),
            covariance: covariance.to_vec(),
        }
    }

    fn close(got: f64, want: f64) {
        assert!((got - want).abs() < 1e-9, "{got} is not {want}");
    }

    #[test]
    fn gaussians_with_known_distances() {
        let a = gaussian(&[0.0, 0.0], &[1.0, 0.0, 0.0, 4.0]);
        let reference = ReferenceGaussian::new(a.clone());
        close(reference.distance(&a), 0.0);
        // Moved by (3, 4): 25.
        close(
            reference.distance(&gaussian(&[3.0, 4.0], &a.covariance)),
            25.0,
        );
        // Diagonal ones: the sum of squared differences of deviations, (3-1)² + (1-2)².
        close(
            reference.distance(&gaussian(&[0.0, 0.0], &[9.0, 0.0, 0.0, 1.0])),
            5.0,
        );
        // The same two turned by 45 degrees are as far apart.
        let turned = |x: f64, y: f64| {
            let (sum, difference) = ((x + y) / 2.0, (x - y) / 2.0);
            gaussian(&[0.0, 0.0], &[sum, difference, difference, sum])
        };
        close(
            ReferenceGaussian::new(turned(1.0, 4.0)).distance(&turned(9.0, 1.0)),
            5.0,
        );
        // A flat one: trace of what is left.
        close(reference.distance(&gaussian(&[0.0, 0.0], &[0.0; 4])), 5.0);
        // Matrices that do not commute: for 2x2 the trace of the root of a product M is
        // sqrt(tr M + 2 sqrt det M). Here M = [[2, 1], [4, 8]], tr 10, det 12.
        let b = gaussian(&[0.0, 0.0], &[2.0, 1.0, 1.0, 2.0]);
        let shared = (10.0 + 2.0 * 12f64.sqrt()).sqrt();
        close(reference.distance(&b), 5.0 + 4.0 - 2.0 * shared);
    }

    #[test]
    fn means_and_covariances_are_those_of_the_features() {
        let features = [[0.0f32, 1.0], [2.0, 1.0], [4.0, 7.0]];
        let g = Gaussian::of(features.iter().map(|f| &f[..])).unwrap();
        assert_eq!(g.mean, [2.0, 3.0]);
        assert_eq!(g.covariance, [4.0, 6.0, 6.0, 12.0]);
        assert!(Gaussian::of(features[..1].iter().map(|f| &f[..])).is_none());
    }

    #[test]
    fn an_eigen_decomposition_gives_its_matrix_back() {
        let n = 24;
        let mut m = vec![0.0; n * n];
        for i in 0..n {
            for j in 0..=i {
                let value = ((i * 7 + j * 13) % 11) as f64 - 5.0;
                m[i * n + j] = value;
                m[j * n + i] = value;
            }
        }
        let (values, vectors) = eigen(&m, n);
        let mut sorted = values.clone();
        sorted.sort_by(f64::total_cmp);
        for (a, b) in sorted.iter().zip(eigenvalues(m.clone(), n)) {
            close(*a, b);
        }
        for i in 0..n {
            for j in 0..n {
                let sum = |f: &dyn Fn(usize) -> f64| (0..n).map(f).sum::<f64>();
                close(
                    sum(&|k| values[k] * vectors[i * n + k] * vectors[j * n + k]),
                    m[i * n + j],
                );
                let one = f64::from(u8::from(i == j));
                close(sum(&|k| vectors[k * n + i] * vectors[k * n + j]), one);
            }
        }
    }
}
