//! Attention: masks, packed heads, rows at a time, over a cache, without keys.

use super::*;

#[test]
fn attention_matches() {
    for (b, tq, tk, heads, kv, d) in [
        (1, 1, 1, 1, 1, 1),
        (2, 16, 16, 4, 4, 16),
        (2, 64, 24, 2, 2, 32),
        (1, 100, 100, 2, 1, 64),
        (2, 5, 9, 6, 2, 8),
        (1, 130, 7, 1, 1, 40),
        (1, 3, 300, 2, 2, 16),
        // More keys than the backward pass works on together.
        (2, 70, 600, 2, 1, 20),
        (1, 530, 530, 1, 1, 33),
    ] {
        let vars = [
            draw(0, &[b, tq, heads * d]),
            draw(1, &[b, tk, kv * d]),
            draw(2, &[b, tk, kv * d]),
        ];
        let mut masks = vec![Mask::None];
        if tq <= tk {
            masks.push(Mask::Causal);
        }
        let seen: Vec<f32> = (0..b * tk)
            .map(|i| if i % tk == 0 || i % 3 != 0 { 1.0 } else { 0.0 })
            .collect();
        masks.push(Mask::Keys(Tensor::from_vec(seen, (b, tk), &CPU).unwrap()));
        for m in masks {
            same(
                &vars,
                |v| attention(&v[0], &v[1], &v[2], heads, kv, &m),
                |v| plain::attention(&v[0], &v[1], &v[2], heads, kv, &m),
            );
        }
    }
}

#[test]
fn attention_by_rows_is_attention_of_all_at_once() {
    let (b, tq, tk, heads, kv, d) = (2, 7, 9, 4, 2, 8);
    let wide = |stream, shape: &[usize]| draw(stream, shape).to_dtype(DType::F64).unwrap();
    let q = wide(0, &[b, tq, heads * d]);
    let (k, v) = (wide(1, &[b, tk, kv * d]), wide(2, &[b, tk, kv * d]));
    let seen: Vec<f32> = (0..b * tk).map(|i| (i % 3 != 1) as u8 as f32).collect();
    let seen = Tensor::from_vec(seen, (b, tk), &CPU).unwrap();
    for mask in [Mask::None, Mask::Causal, Mask::Keys(seen)] {
        let rows = |rows| {
            let found = plain::attention_by_rows(rows, &q, &k, &v, (heads, kv), &mask);
            found.unwrap()
        };
        let all = rows(tq);
        for some in [1, 3, 5, 100] {
            assert!(apart(&rows(some), &all) < 1e-12, "{some} rows, {mask:?}");
        }
    }
}

#[test]
fn attention_over_a_cache_is_attention_over_everything() {
    let (heads, kv, d, t) = (4, 2, 8, 11);
    let q = noise(1, 0, &[1, t, heads * d], &CPU).unwrap();
    let k = noise(1, 1, &[1, t, kv * d], &CPU).unwrap();
    let v = noise(1, 2, &[1, t, kv * d], &CPU).unwrap();
    let all = attention(&q, &k, &v, heads, kv, &Mask::Causal).unwrap();
    // Each call sees the keys of all tokens so far, of which the last are its own.
    for (from, to) in [(0, 4), (4, 5), (5, 11)] {
        let cut = |t: &Tensor, from: usize| t.narrow(1, from, to - from).unwrap();
        let part = attention(
            &cut(&q, from),
            &cut(&k, 0),
            &cut(&v, 0),
            heads,
            kv,
            &Mask::Causal,
        );
        assert!(apart(&part.unwrap(), &cut(&all, from)) < 1e-6);
    }
}

#[test]
fn packed_attention_matches() {
    let segment = |queries: Range<usize>, keys: &[(usize, usize)]| Segment {
        queries,
        keys: keys.iter().map(|&(from, to)| from..to).collect(),
    };
    // Two keys from before the queries; texts that share a beginning, skip what is not theirs, and
    // see the same place twice.
    let segments: Arc<[Segment]> = Arc::new([
        segment(0..3, &[(0, 5)]),
        segment(3..4, &[(0, 2), (5, 6)]),
        segment(4..24, &[(0, 1), (2, 5), (6, 26)]),
        segment(24..26, &[(0, 5), (0, 1), (26, 28)]),
    ]);
    for (heads, kv, d) in [(1, 1, 4), (6, 2, 8), (3, 1, 40)] {
        let vars = [
            draw(0, &[1, 26, heads * d]),
            draw(1, &[1, 28, kv * d]),
            draw(2, &[1, 28, kv * d]),
        ];
        same(
            &vars,
            |v| packed_attention(&v[0], &v[1], &v[2], heads, kv, &segments),
            |v| plain::packed_attention(&v[0], &v[1], &v[2], heads, kv, &segments),
        );
    }
    let x = noise(1, 0, &[1, 4, 8], &CPU).unwrap();
    for bad in [
        vec![segment(0..3, &[(0, 3)])],
        vec![segment(0..2, &[(0, 2)]), segment(3..4, &[(0, 4)])],
        vec![segment(0..4, &[(0, 3)])],
        vec![segment(0..4, &[(1, 5)])],
    ] {
        assert!(packed_attention(&x, &x, &x, 2, 2, &bad.into()).is_err());
    }
}

#[test]
fn attention_without_keys_is_zero_and_so_are_its_gradients() {
    let q = draw(0, &[1, 3, 8]);
    let k = Var::zeros((1, 0, 8), DType::F32, &CPU).unwrap();
    let y = attention(&q, &k, &k, 2, 2, &Mask::None).unwrap();
    assert!(values(&y).iter().all(|v| *v == 0.0));
    let grads = y.sqr().unwrap().sum_all().unwrap().backward().unwrap();
    assert!(values(grads.get(&q).unwrap()).iter().all(|v| *v == 0.0));
}
