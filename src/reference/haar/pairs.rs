//! Sums and differences of neighbours of whole rows, in lanes.

use super::hadamard::Factors;
use super::lanes::{Lanes, Sum};
use crate::Element;

/// Whether there is AVX-512, as far as [`Sum::Widest`] needs it.
#[inline(always)]
pub fn has_avx512() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::is_x86_feature_detected as has;
        has!("avx512f") && has!("avx512bw") && has!("avx512dq") && has!("avx512vl")
    }
    #[cfg(not(target_arch = "x86_64"))]
    false
}

fn least<const N: usize>(lengths: [usize; N]) -> usize {
    lengths.into_iter().min().unwrap_or(0)
}

/// Defines each function three times: for the lanes of AVX-512's registers, and for one at a time with those of AVX2 and of every processor; takes the first that there is. The bits are the same, but for
/// sums of products that are not exact.
/// They stay functions, of which the compiler knows that their slices are disjoint.
macro_rules! vectors {
    ($($(#[$documentation:meta])* fn $name:ident<$($type:ident),*; $sum:ident>($($argument:ident: $of:ty),*), $lanes:ident: $body:block)*) => {$(
        $(#[$documentation])*
        #[inline(always)]
        pub fn $name<$($type: Element,)* $sum: Sum>($($argument: $of),*) {
            #[inline(always)]
            fn either<$lanes: Lanes<Sum = $sum>, $($type: Element,)* $sum: Sum>($($argument: $of),*) $body
            #[inline(never)]
            fn narrow<$($type: Element,)* $sum: Sum>($($argument: $of),*) {
                either::<$sum, $($type,)* $sum>($($argument),*);
            }
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
                #[inline(never)]
                fn widest<$($type: Element,)* $sum: Sum>($($argument: $of),*) {
                    either::<$sum::Widest, $($type,)* $sum>($($argument),*);
                }
                #[target_feature(enable = "avx2")]
                #[inline(never)]
                fn wide<$($type: Element,)* $sum: Sum>($($argument: $of),*) {
                    either::<$sum, $($type,)* $sum>($($argument),*);
                }
                if has_avx512() {
                    // SAFETY: the processor has these.
                    return unsafe { widest::<$($type,)* $sum>($($argument),*) };
                }
                if std::arch::is_x86_feature_detected!("avx2") {
                    // SAFETY: the processor has AVX2.
                    return unsafe { wide::<$($type,)* $sum>($($argument),*) };
                }
            }
            narrow::<$($type,)* $sum>($($argument),*);
        }
    )*};
}

pub(super) use vectors;

/// Defines functions that do the same for all of `$count` elements or pairs, of which each slice has so many: for the lanes from `$i` on, then for those that are left.
macro_rules! rows {
    ($($(#[$documentation:meta])* fn $name:ident<$($type:ident),*; $sum:ident>($($argument:ident: $of:ty),*), $lanes:ident from $i:ident to $count:expr => $body:block)*) => {
        vectors! {$(
            $(#[$documentation])*
            fn $name<$($type),*; $sum>($($argument: $of),*), Widest: {
                #[inline(always)]
                #[allow(clippy::too_many_arguments)]
                fn run<$lanes: Lanes<Sum = $sum>, $($type: Element,)* $sum: Sum>(begin: usize, end: usize, $($argument: $of),*) -> usize {
                    let mut $i = begin;
                    while $i + $lanes::COUNT <= end {
                        // SAFETY: all slices have so many elements.
                        unsafe { $body }
                        $i += $lanes::COUNT;
                    }
                    $i
                }
                let count = $count;
                let done = run::<Widest, $($type,)* $sum>(0, count, $($argument),*);
                run::<$sum, $($type,)* $sum>(done, count, $($argument),*);
            }
        )*}
    };
}

rows! {
    /// Approximations and details along rows, along columns and along both, of two rows.
    fn forward_both<S, T; N>(upper: &[S], lower: &[S], a: &mut [N], h: &mut [T], v: &mut [T], d: &mut [T], factor: N),
        V from i to least([upper.len() / 2, lower.len() / 2, a.len(), h.len(), v.len(), d.len()]) => {
        let ([p, q], [r, s]) = (V::load_pairs(upper, i), V::load_pairs(lower, i));
        let ([upper_sum, upper_detail], [lower_sum, lower_detail]) = (p.pair(q), r.pair(s));
        let ([sum, along_rows], [along_columns, along_both]) = (upper_sum.pair(lower_sum), upper_detail.pair(lower_detail));
        let factor = V::splat(factor);
        sum.store(a, i);
        along_rows.scaled(factor).store(h, i);
        along_columns.scaled(factor).store(v, i);
        along_both.scaled(factor).store(d, i);
    }

    /// Approximations and details of two rows.
    fn forward_rows<S, T; N>(upper: &[S], lower: &[S], a: &mut [N], h: &mut [T], factor: N),
        V from i to least([upper.len(), lower.len(), a.len(), h.len()]) => {
        let [sum, detail] = V::load(upper, i).pair(V::load(lower, i));
        sum.store(a, i);
        detail.scaled(V::splat(factor)).store(h, i);
    }

    /// Approximations and details of neighbours of a row.
    fn forward_columns<S, T; N>(row: &[S], a: &mut [N], v: &mut [T], factor: N),
        V from i to least([row.len() / 2, a.len(), v.len()]) => {
        let [left, right] = V::load_pairs(row, i);
        let [sum, detail] = left.pair(right);
        sum.store(a, i);
        detail.scaled(V::splat(factor)).store(v, i);
    }

    /// The coefficients of the last approximations.
    fn scale<T; N>(a: &[N], coefficients: &mut [T], factor: N), V from i to least([a.len(), coefficients.len()]) => {
        V::load(a, i).scaled(V::splat(factor)).store(coefficients, i);
    }

    /// Takes [`scale`] back.
    fn unscale<T; N>(coefficients: &[T], a: &mut [N], factor: N), V from i to least([coefficients.len(), a.len()]) => {
        V::load(coefficients, i).scaled(V::splat(factor)).store(a, i);
    }

    /// Takes [`forward_both`] back.
    fn inverse_both<S, T; N>(upper: &mut [S], lower: &mut [S], a: &[N], h: &[T], v: &[T], d: &[T], factor: N),
        V from i to least([upper.len() / 2, lower.len() / 2, a.len(), h.len(), v.len(), d.len()]) => {
        let factor = V::splat(factor);
        let (h, v, d) = (V::load(h, i).scaled(factor), V::load(v, i).scaled(factor), V::load(d, i).scaled(factor));
        let ([left, right], [left_detail, right_detail]) = (V::load(a, i).pair(v), h.pair(d));
        let ([p, r], [q, s]) = (left.pair(left_detail), right.pair(right_detail));
        V::store_pairs([p, q], upper, i);
        V::store_pairs([r, s], lower, i);
    }

    /// Takes [`forward_rows`] back.
    fn inverse_rows<S, T; N>(upper: &mut [S], lower: &mut [S], a: &[N], h: &[T], factor: N),
        V from i to least([upper.len(), lower.len(), a.len(), h.len()]) => {
        let [first, second] = V::load(a, i).pair(V::load(h, i).scaled(V::splat(factor)));
        first.store(upper, i);
        second.store(lower, i);
    }

    /// Takes [`forward_columns`] back.
    fn inverse_columns<S, T; N>(row: &mut [S], a: &[N], v: &[T], factor: N),
        V from i to least([row.len() / 2, a.len(), v.len()]) => {
        V::store_pairs(V::load(a, i).pair(V::load(v, i).scaled(V::splat(factor))), row, i);
    }

    /// As [`unscale`], with a factor for each.
    fn unscale_each<T; N>(row: &[T], values: &mut [N], factors: &Factors<N>),
        V from i to factors.count(least([row.len(), values.len()])) => {
        V::load(row, i).scaled(factors.lanes(i)).store(values, i);
    }

    /// As [`scale`], with a factor for each.
    fn scale_each<T; N>(values: &[N], row: &mut [T], factors: &Factors<N>),
        V from i to factors.count(least([row.len(), values.len()])) => {
        V::load(values, i).scaled(factors.lanes(i)).store(row, i);
    }

    /// Elements of two rows in turns.
    fn zip<T; N>(even: &[T], odd: &[T], both: &mut [T]), V from i to least([even.len(), odd.len(), both.len() / 2]) => {
        V::zip(even, odd, both, i);
    }
}

vectors! {
    /// Takes [`zip`] back.
    fn unzip<T; N>(both: &[T], even: &mut [T], odd: &mut [T]), V: {
        for ((even, odd), both) in even.iter_mut().zip(odd).zip(both.as_chunks::<2>().0) {
            [*even, *odd] = *both;
        }
    }

    /// Sums and differences of what is 1, 2, 4, … apart, of as many elements as a power of two.
    fn walsh_hadamard<; N>(values: &mut [N]), V: {
        let n = values.len();
        let mut half = 1;
        if n >= 8 {
            // Of neighbours.
            for eight in values.as_chunks_mut::<8>().0 {
                let [a, b, c, d, e, f, g, h] = *eight;
                let ([a, b], [c, d], [e, f], [g, h]) = (a.pair(b), c.pair(d), e.pair(f), g.pair(h));
                let ([a, c], [b, d], [e, g], [f, h]) = (a.pair(c), b.pair(d), e.pair(g), f.pair(h));
                let ([a, e], [b, f], [c, g], [d, h]) = (a.pair(e), b.pair(f), c.pair(g), d.pair(h));
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
                    let ([p, q], [r, s]) = (a.pair(*b), c.pair(*d));
                    ([*a, *c], [*b, *d]) = (p.pair(r), q.pair(s));
                }
            }
            half *= 4;
        }
        if 2 * half <= n {
            let (left, right) = values.split_at_mut(half);
            for (a, b) in left.iter_mut().zip(right) {
                [*a, *b] = a.pair(*b);
            }
        }
    }
}
