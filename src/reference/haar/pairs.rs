//! Sums and differences of neighbours of whole rows, in loops that the compiler makes vectors of.

use crate::Element;

/// As [`crate::reference::Number::add_product`] to nothing: a zero has no sign.
#[inline(always)]
fn scaled(value: f64, factor: f64) -> f64 {
    0.0 + value * factor
}

#[inline(always)]
fn coefficient<T: Element>(value: f64, factor: f64) -> T {
    T::from_f64(scaled(value, factor))
}

#[inline(always)]
fn pair(a: f64, b: f64) -> [f64; 2] {
    [a + b, a - b]
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn has_avx512() -> bool {
    use std::arch::is_x86_feature_detected as has;
    has!("avx512f") && has!("avx512bw") && has!("avx512dq") && has!("avx512vl")
}

/// Defines each function three times, with the registers of AVX-512, of AVX2 and of every processor, and takes the widest that there are; the bits are the same. They stay functions, of which the
/// compiler knows that their slices are disjoint.
macro_rules! vectors {
    ($($(#[$documentation:meta])* fn $name:ident<$($type:ident),*>($($argument:ident: $of:ty),*) $body:block)*) => {$(
        $(#[$documentation])*
        #[inline(always)]
        pub fn $name<$($type: Element),*>($($argument: $of),*) {
            #[inline(always)]
            fn either<$($type: Element),*>($($argument: $of),*) $body
            #[inline(never)]
            fn narrow<$($type: Element),*>($($argument: $of),*) {
                either($($argument),*);
            }
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
                #[inline(never)]
                fn widest<$($type: Element),*>($($argument: $of),*) {
                    either($($argument),*);
                }
                #[target_feature(enable = "avx2")]
                #[inline(never)]
                fn wide<$($type: Element),*>($($argument: $of),*) {
                    either($($argument),*);
                }
                if has_avx512() {
                    // SAFETY: the processor has these.
                    return unsafe { widest($($argument),*) };
                }
                if std::arch::is_x86_feature_detected!("avx2") {
                    // SAFETY: the processor has AVX2.
                    return unsafe { wide($($argument),*) };
                }
            }
            narrow($($argument),*);
        }
    )*};
}

vectors! {
    /// Approximations and details along rows, along columns and along both, of two rows.
    fn forward_both<S, T>(upper: &[S], lower: &[S], a: &mut [f64], h: &mut [T], v: &mut [T], d: &mut [T], factor: f64) {
        let (upper, lower) = (upper.as_chunks::<2>().0, lower.as_chunks::<2>().0);
        for (((a, ((h, v), d)), upper), lower) in a.iter_mut().zip(h.iter_mut().zip(v).zip(d)).zip(upper).zip(lower) {
            let ([p, q], [r, s]) = (upper.map(S::to_f64), lower.map(S::to_f64));
            let ([upper_sum, upper_detail], [lower_sum, lower_detail]) = (pair(p, q), pair(r, s));
            let ([sum, along_rows], [along_columns, along_both]) = (pair(upper_sum, lower_sum), pair(upper_detail, lower_detail));
            *a = sum;
            *h = coefficient(along_rows, factor);
            *v = coefficient(along_columns, factor);
            *d = coefficient(along_both, factor);
        }
    }

    /// Approximations and details of two rows.
    fn forward_rows<S, T>(upper: &[S], lower: &[S], a: &mut [f64], h: &mut [T], factor: f64) {
        for (((a, h), upper), lower) in a.iter_mut().zip(h).zip(upper).zip(lower) {
            let [sum, detail] = pair(upper.to_f64(), lower.to_f64());
            *a = sum;
            *h = coefficient(detail, factor);
        }
    }

    /// Approximations and details of neighbours of a row.
    fn forward_columns<S, T>(row: &[S], a: &mut [f64], v: &mut [T], factor: f64) {
        for ((a, v), both) in a.iter_mut().zip(v).zip(row.as_chunks::<2>().0) {
            let [left, right] = both.map(S::to_f64);
            let [sum, detail] = pair(left, right);
            *a = sum;
            *v = coefficient(detail, factor);
        }
    }

    /// The coefficients of the last approximations.
    fn scale<T>(a: &[f64], coefficients: &mut [T], factor: f64) {
        for (&a, rounded) in a.iter().zip(coefficients) {
            *rounded = coefficient(a, factor);
        }
    }

    /// Takes [`scale`] back.
    fn unscale<T>(coefficients: &[T], a: &mut [f64], factor: f64) {
        for (coefficient, a) in coefficients.iter().zip(a) {
            *a = scaled(coefficient.to_f64(), factor);
        }
    }

    /// Takes [`forward_both`] back.
    fn inverse_both<S, T>(upper: &mut [S], lower: &mut [S], a: &[f64], h: &[T], v: &[T], d: &[T], factor: f64) {
        let (upper, lower) = (upper.as_chunks_mut::<2>().0, lower.as_chunks_mut::<2>().0);
        for (((a, ((h, v), d)), upper), lower) in a.iter().zip(h.iter().zip(v).zip(d)).zip(upper).zip(lower) {
            let [h, v, d] = [h, v, d].map(|detail| scaled(detail.to_f64(), factor));
            let ([left, right], [left_detail, right_detail]) = (pair(*a, v), pair(h, d));
            let ([p, r], [q, s]) = (pair(left, left_detail), pair(right, right_detail));
            *upper = [p, q].map(S::from_f64);
            *lower = [r, s].map(S::from_f64);
        }
    }

    /// Takes [`forward_rows`] back.
    fn inverse_rows<S, T>(upper: &mut [S], lower: &mut [S], a: &[f64], h: &[T], factor: f64) {
        for (((a, h), upper), lower) in a.iter().zip(h).zip(upper).zip(lower) {
            let [first, second] = pair(*a, scaled(h.to_f64(), factor));
            (*upper, *lower) = (S::from_f64(first), S::from_f64(second));
        }
    }

    /// Takes [`forward_columns`] back.
    fn inverse_columns<S, T>(row: &mut [S], a: &[f64], v: &[T], factor: f64) {
        for ((a, v), both) in a.iter().zip(v).zip(row.as_chunks_mut::<2>().0) {
            *both = pair(*a, scaled(v.to_f64(), factor)).map(S::from_f64);
        }
    }

    /// As [`unscale`], with a factor for each.
    fn unscale_each<T>(row: &[T], values: &mut [f64], factors: &[f64]) {
        for ((element, value), &factor) in row.iter().zip(values).zip(factors) {
            *value = scaled(element.to_f64(), factor);
        }
    }

    /// As [`scale`], with a factor for each.
    fn scale_each<T>(values: &[f64], row: &mut [T], factors: &[f64]) {
        for ((&value, element), &factor) in values.iter().zip(row).zip(factors) {
            *element = coefficient(value, factor);
        }
    }

    /// Elements of two rows in turns.
    fn zip<T>(even: &[T], odd: &[T], both: &mut [T]) {
        for ((&even, &odd), both) in even.iter().zip(odd).zip(both.as_chunks_mut::<2>().0) {
            *both = [even, odd];
        }
    }

    /// Takes [`zip`] back.
    fn unzip<T>(both: &[T], even: &mut [T], odd: &mut [T]) {
        for ((even, odd), both) in even.iter_mut().zip(odd).zip(both.as_chunks::<2>().0) {
            [*even, *odd] = *both;
        }
    }

    /// Sums and differences of what is 1, 2, 4, … apart, of as many elements as a power of two.
    fn walsh_hadamard<>(values: &mut [f64]) {
        let n = values.len();
        let mut half = 1;
        if n >= 8 {
            // Of neighbours.
            for eight in values.as_chunks_mut::<8>().0 {
                let [a, b, c, d, e, f, g, h] = *eight;
                let ([a, b], [c, d], [e, f], [g, h]) = (pair(a, b), pair(c, d), pair(e, f), pair(g, h));
                let ([a, c], [b, d], [e, g], [f, h]) = (pair(a, c), pair(b, d), pair(e, g), pair(f, h));
                let ([a, e], [b, f], [c, g], [d, h]) = (pair(a, e), pair(b, f), pair(c, g), pair(d, h));
                *eight = [a, b, c, d, e, f, g, h];
            }
            half = 8;
        }
        // Two distances in one pass.
        while 4 * half <= n {
            for block in values.chunks_exact_mut(4 * half) {
                let (upper, lower) = block.split_at_mut(2 * half);
                let ((a, b), (c, d)) = (upper.split_at_mut(half), lower.split_at_mut(half));
                for (((a, b), c), d) in a.iter_mut().zip(b).zip(c).zip(d) {
                    let ([p, q], [r, s]) = (pair(*a, *b), pair(*c, *d));
                    ([*a, *c], [*b, *d]) = (pair(p, r), pair(q, s));
                }
            }
            half *= 4;
        }
        if 2 * half <= n {
            let (left, right) = values.split_at_mut(half);
            for (a, b) in left.iter_mut().zip(right) {
                [*a, *b] = pair(*a, *b);
            }
        }
    }
}
