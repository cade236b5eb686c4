/* The vector step of the C kernel, for the widest vectors that the compiler may use. */

#pragma once

#include <stdint.h>
#ifdef __AVX2__
#include <immintrin.h>
#endif

/* For WIDTH neurons: `add` adds weights, saturates and clips; `at_threshold` tells who fires, as
   one of every SPREAD `bits`; `after` is the state of those who did; `blend` takes the first lanes of
   one vector and the others of another. Loads may go beyond the last neuron. */
#if defined(__AVX512BW__)
enum { WIDTH = 32, SPREAD = 1 };
typedef __m512i Vector;
typedef __mmask32 Fired;
static inline Vector load(const int16_t *at) { return _mm512_loadu_si512(at); }
static inline void store(int16_t *at, Vector v) { _mm512_storeu_si512(at, v); }
static inline Vector all(int64_t v) { return _mm512_set1_epi16((int16_t)v); }
static inline Vector add(Vector v, const int8_t *weights, Vector low) {
    __m256i narrow = _mm256_loadu_si256((const __m256i *)weights);
    return _mm512_max_epi16(_mm512_adds_epi16(v, _mm512_cvtepi8_epi16(narrow)), low);
}
static inline Fired at_threshold(Vector v, Vector below) {
    return _mm512_cmpgt_epi16_mask(v, below);
}
static inline uint32_t bits(Fired fired) { return fired; }
static inline Vector after(Vector v, Fired fired, Vector loss, Vector kept) {
    Vector left = _mm512_and_si512(_mm512_sub_epi16(v, loss), kept);
    return _mm512_mask_mov_epi16(v, fired, left);
}
static inline Vector blend(Vector v, Vector others, int lanes) {
    return _mm512_mask_mov_epi16(others, (1u << lanes) - 1, v);
}
#elif defined(__AVX2__)
enum { WIDTH = 16, SPREAD = 2 };
typedef __m256i Vector;
typedef __m256i Fired;
static inline Vector load(const int16_t *at) { return _mm256_loadu_si256((const __m256i *)at); }
static inline void store(int16_t *at, Vector v) { _mm256_storeu_si256((__m256i *)at, v); }
static inline Vector all(int64_t v) { return _mm256_set1_epi16((int16_t)v); }
static inline Vector add(Vector v, const int8_t *weights, Vector low) {
    __m128i narrow = _mm_loadu_si128((const __m128i *)weights);
    return _mm256_max_epi16(_mm256_adds_epi16(v, _mm256_cvtepi8_epi16(narrow)), low);
}
static inline Fired at_threshold(Vector v, Vector below) { return _mm256_cmpgt_epi16(v, below); }
static inline uint32_t bits(Fired fired) {
    return (uint32_t)_mm256_movemask_epi8(fired) & 0x55555555u;
}
static inline Vector after(Vector v, Fired fired, Vector loss, Vector kept) {
    Vector left = _mm256_and_si256(_mm256_sub_epi16(v, loss), kept);
    return _mm256_blendv_epi8(v, left, fired);
}
static inline Vector blend(Vector v, Vector others, int lanes) {
    static const int16_t first[2 * WIDTH] = {-1, -1, -1, -1, -1, -1, -1, -1,
                                             -1, -1, -1, -1, -1, -1, -1, -1};
    return _mm256_blendv_epi8(others, v, load(first + WIDTH - lanes));
}
#else
enum { WIDTH = 1, SPREAD = 1 };
typedef int32_t Vector;
typedef uint32_t Fired;
static inline Vector load(const int16_t *at) { return *at; }
static inline void store(int16_t *at, Vector v) { *at = (int16_t)v; }
static inline Vector all(int64_t v) { return (Vector)v; }
static inline Vector add(Vector v, const int8_t *weights, Vector low) {
    v += *weights;
    v = v > INT16_MAX ? INT16_MAX : v;
    return v > low ? v : low; /* which is never below INT16_MIN */
}
static inline Fired at_threshold(Vector v, Vector below) { return v > below; }
static inline uint32_t bits(Fired fired) { return fired; }
static inline Vector after(Vector v, Fired fired, Vector loss, Vector kept) {
    return fired ? (v - loss) & kept : v;
}
static inline Vector blend(Vector v, Vector others, int lanes) { return lanes ? v : others; }
#endif
