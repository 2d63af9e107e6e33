/* Fixed-width SIMD, with vectors that live across calls and loops: a Mandelbrot row four points at a time, and sums of
 * bytes, words and doubles. simd [n = 12000] */
#include "guest.h"
#include <wasm_simd128.h>

static __attribute__((noinline)) v128_t escape_counts(v128_t cr, v128_t ci) {
    v128_t zr = wasm_f32x4_const_splat(0), zi = zr, count = wasm_i32x4_const_splat(0);
    for (int i = 0; i < 50; i++) {
        v128_t rr = wasm_f32x4_mul(zr, zr), ii = wasm_f32x4_mul(zi, zi);
        v128_t inside = wasm_f32x4_le(wasm_f32x4_add(rr, ii), wasm_f32x4_const_splat(4));
        if (!wasm_v128_any_true(inside)) break;
        count = wasm_i32x4_sub(count, inside);
        zi = wasm_f32x4_add(wasm_f32x4_mul(wasm_f32x4_add(zr, zr), zi), ci);
        zr = wasm_f32x4_add(wasm_f32x4_sub(rr, ii), cr);
    }
    return count;
}

/* A vector in a local over a recursive call. */
static __attribute__((noinline)) v128_t fold(v128_t x, int depth) {
    if (depth == 0) return x;
    v128_t rotated = wasm_i32x4_shuffle(x, x, 1, 2, 3, 0);
    v128_t below = fold(wasm_i32x4_add(rotated, wasm_i32x4_splat(depth)), depth - 1);
    return wasm_v128_xor(below, wasm_i8x16_add(x, rotated));
}

int main(int argc, char **argv) {
    long n = size_argument(argc, argv, 1, 12000, 1);
    v128_t total = wasm_i32x4_const_splat(0), mixed = wasm_i32x4_const(1, 2, 3, 4);
    v128_t halves = wasm_f64x2_const_splat(0);
    for (long y = 0; y < n; y++) {
        v128_t ci = wasm_f32x4_splat(2.0f * (float)y / (float)n - 1.0f);
        for (long x = 0; x < n; x += 4) {
            v128_t column = wasm_f32x4_make((float)x, (float)x + 1, (float)x + 2, (float)x + 3);
            v128_t cr = wasm_f32x4_sub(wasm_f32x4_mul(column, wasm_f32x4_splat(2.0f / (float)n)), wasm_f32x4_const_splat(1.5f));
            v128_t counts = escape_counts(cr, ci);
            total = wasm_i32x4_add(total, counts);
            mixed = wasm_v128_xor(wasm_i32x4_mul(mixed, wasm_i32x4_const_splat(31)), counts);
            halves = wasm_f64x2_add(halves, wasm_f64x2_convert_low_i32x4(counts));
        }
        mixed = fold(mixed, (int)(y % 16));
    }
    uint64_t sum = checksum(CHECKSUM_START, &total, sizeof total);
    sum = checksum(checksum(sum, &mixed, sizeof mixed), &halves, sizeof halves);
    printf("%d in the first column of four, checksum %016llx\n", wasm_i32x4_extract_lane(total, 0), (unsigned long long)sum);
    return 0;
}
