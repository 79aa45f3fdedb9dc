//! Dot products of rows with columns: which kernel computes them for an instruction set and a format.

#[cfg(target_arch = "aarch64")]
use super::single_neon;
use super::{Column, InstructionSet, QuantType, portable};
#[cfg(target_arch = "x86_64")]
use super::{RoundedColumn, avx2, avx512, eight_avx512, fours_avx512, k_avx512, multiplies_bytes};
#[cfg(target_arch = "x86_64")]
use super::{single_avx2, single_avx512, unpacked};

/// The dot product of each row with each column; a result does not depend on the others.
pub(super) fn dot<const R: usize, const N: usize>(
    set: InstructionSet,
    kind: QuantType,
    rows: &[&[u8]; R],
    columns: &[Column; N],
) -> [[f32; N]; R] {
    let x = columns.map(|column| column.x);
    #[cfg(target_arch = "x86_64")]
    {
        let rounded = columns.map(|column| column.rounded);
        let rest = columns.map(|column| column.rest);
        let (rounded, rest) = (&rounded, &rest);
        match (set, kind) {
            (InstructionSet::Avx512, QuantType::Q4_1) => {
                // SAFETY: an instruction set is only asked for when the processor has it.
                return unsafe { avx512::dot::<avx512::Q4_1, R, N>(rows, &x) };
            }
            (InstructionSet::Avx512, QuantType::F16) => {
                // SAFETY: an instruction set is only asked for when the processor has it.
                return unsafe { avx512::dot::<avx512::F16, R, N>(rows, &x) };
            }
            (InstructionSet::Avx512, QuantType::Bf16) => {
                // SAFETY: an instruction set is only asked for when the processor has it.
                return unsafe { avx512::dot::<avx512::Bf16, R, N>(rows, &x) };
            }
            (InstructionSet::Avx512, QuantType::F32) => {
                // SAFETY: an instruction set is only asked for when the processor has it.
                return unsafe { avx512::dot::<avx512::F32, R, N>(rows, &x) };
            }
            (InstructionSet::Portable, _) => {}
            (InstructionSet::Avx512, kind) if multiplies_bytes() && kind.unpacks() => {
                let mut values = [[0.0; N]; R];
                for n in 0..N {
                    // SAFETY: an instruction set is only asked for when the processor has it.
                    let column = unsafe { single_unpacked(kind, rows, &rounded[n]) };
                    (0..R).for_each(|r| values[r][n] = column[r]);
                }
                return values;
            }
            (InstructionSet::Avx512, _) if multiplies_bytes() && N == 1 => {
                let (rounded, rest) = (&rounded[0], &rest[0]);
                // SAFETY: an instruction set is only asked for when the processor has it.
                let values: [f32; R] = unsafe {
                    match kind {
                        QuantType::Q8_0 => single_avx512::dot_q8_0(rows, rounded, rest),
                        QuantType::Q4K => single_avx512::dot::<eight_avx512::Q4K, R>(rows, rounded),
                        _ => single_avx512::dot::<eight_avx512::Q6K, R>(rows, rounded),
                    }
                };
                return values.map(|value| [value; N]);
            }
            (InstructionSet::Avx512, _) if multiplies_bytes() => {
                // SAFETY: an instruction set is only asked for when the processor has it.
                return unsafe {
                    match kind {
                        QuantType::Q8_0 => {
                            use eight_avx512::{Q8_0, dot};
                            let mut values = dot::<Q8_0, R, N>(rows, rounded);
                            sum(&mut values, &dot::<Q8_0, R, N>(rows, rest));
                            values
                        }
                        QuantType::Q4K => {
                            eight_avx512::dot::<eight_avx512::Q4K, R, N>(rows, rounded)
                        }
                        _ => eight_avx512::dot::<eight_avx512::Q6K, R, N>(rows, rounded),
                    }
                };
            }
            // For more than one column, weights are written out.
            _ if N == 1 => {
                let (rounded, rest) = (&rounded[0], &rest[0]);
                // SAFETY: an instruction set is only asked for when the processor has it.
                let values: [f32; R] = unsafe {
                    match kind {
                        QuantType::F32 => avx2::dot::<avx2::F32, R>(rows, x[0]),
                        QuantType::F16 => avx2::dot::<avx2::F16, R>(rows, x[0]),
                        QuantType::Bf16 => avx2::dot::<avx2::Bf16, R>(rows, x[0]),
                        QuantType::Q4_1 => avx2::dot::<avx2::Q4_1, R>(rows, x[0]),
                        QuantType::Q8_0 => single_avx2::dot_q8_0(rows, rounded, rest),
                        QuantType::Q4K => single_avx2::dot::<single_avx2::Q4K, R>(rows, rounded),
                        QuantType::Q6K => single_avx2::dot::<single_avx2::Q6K, R>(rows, rounded),
                        _ => unpacked::dot_avx2(kind, rows, rounded),
                    }
                };
                return values.map(|value| [value; N]);
            }
            _ => {}
        }
    }
    // For more than one column, weights are written out.
    #[cfg(target_arch = "aarch64")]
    if N == 1 && set != InstructionSet::Portable {
        // SAFETY: as above; rows and columns are as long as the matrix is wide.
        let values = unsafe { single_neon::dot(set, kind, rows, &columns[0]) };
        return values.map(|value| [value; N]);
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = set;
    rows.map(|row| portable::dot(kind, row, &x))
}

/// The dot product of each row of a type that [`QuantType::unpacks`] with a column, with AVX-512.
///
/// # Safety
/// The processor has AVX-512F, BW, DQ, VL and VNNI; rows and column hold the same number of
/// weights.
#[cfg(target_arch = "x86_64")]
unsafe fn single_unpacked<const R: usize>(
    kind: QuantType,
    rows: &[&[u8]; R],
    column: &RoundedColumn,
) -> [f32; R] {
    // SAFETY: the caller's promise.
    unsafe {
        match kind {
            QuantType::Q2K => single_avx512::dot::<k_avx512::Q2K, R>(rows, column),
            QuantType::Q3K => single_avx512::dot::<k_avx512::Q3K, R>(rows, column),
            QuantType::Q5K => single_avx512::dot::<k_avx512::Q5K, R>(rows, column),
            kind => fours_avx512::dot(kind, rows, column),
        }
    }
}

/// Adds `other` to `values`, one by one.
#[cfg(target_arch = "x86_64")]
pub(super) fn sum<const R: usize, const N: usize>(
    values: &mut [[f32; N]; R],
    other: &[[f32; N]; R],
) {
    for (values, other) in values.iter_mut().zip(other) {
        values.iter_mut().zip(other).for_each(|(a, b)| *a += b);
    }
}
