/* A chain of cores as the twin runs it, in C with explicit vectors: how fast one thread can be.

   The semantics are those of docs/explanation/twin.md: integers, one arriving spike after the
   other, neurons in the order y, x, feature, at most one spike of a neuron for each arrival, queues
   without end. c_twin.py compiles this file and fills `Core` in; nothing is checked here.

   Core after core: what a core sends is served by the next as soon as a block is full. State lies
   as (y, x, f) and weights as (c, ky, kx, f) with kernel columns reversed within each stride phase,
   so the neurons of one output row that an arrival reaches, and their weights, are one run each. */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#ifdef __AVX2__
#include <immintrin.h>
#endif

enum { COORDINATES = 256, NS_PER_US = 1000, BLOCK = 2048 };
const int64_t block_spikes = BLOCK;

typedef struct {
    int64_t t_ns;
    int32_t cause; /* index of the input event */
    uint16_t feature;
    uint8_t y, x;
} Spike;

/* What an arrival at one row of the map before pooling reaches. */
typedef struct {
    int32_t rows;    /* of the output map; -1 beyond the map */
    int32_t first;   /* lane of the first row's first neuron */
    int32_t weights; /* offset of the first row's weights; later rows have lower ky */
    int32_t y;       /* of the first row */
} ReachY;

/* The same for a column. */
typedef struct {
    int32_t lanes;   /* neurons of each row; -1 beyond the map */
    int32_t first;   /* lane of the first neuron within its row */
    int32_t weights; /* offset within a row of weights */
    int32_t x;       /* of the first neuron */
} ReachX;

typedef struct {
    /* From the configuration. */
    ReachY reach_y[COORDINATES];
    ReachX reach_x[COORDINATES];
    const int8_t *weights;
    int16_t *state;
    int64_t in_features, feature_shift, channel_weights; /* weights of one input feature */
    int64_t out_features, row_lanes; /* neurons of one row of the output map */
    int64_t weights_step;            /* from a row's weights to the next row's, negative */
    int64_t threshold_high, threshold_low, return_to_zero, decimator, monitored;
    int64_t fixed_ns, pipe_ns, op_ns_q20; /* ns of an operation, times 2^20 */
    /* Carried from call to call. */
    int64_t busy_ns, until_pass, input_spikes, output_spikes, synops;
    Spike *sent; /* a block, and room for all neurons beyond it */
    int64_t sent_count;
    Spike *monitor; /* all that was sent, if monitored; grows */
    int64_t monitor_count, monitor_room;
} Core;

/* The vector step, for WIDTH neurons: `add` adds weights, saturates and clips; `at_threshold` tells
   who fires, as one of every SPREAD `bits`; `after` is the state of those who did; `blend` takes
   the first lanes of one vector and the others of another. Loads may go beyond the last neuron. */
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

/* What is alike for all neurons of a core. */
typedef struct {
    Vector low, below, loss, kept;
} Rule;

/* The arrival being served, and the row of the output map at which it is. */
typedef struct {
    Core *core;
    Spike *end;      /* behind the last spike sent */
    Spike spike;     /* its cause and its row */
    int64_t done_ns; /* start + fixed + pipe */
    int64_t done;    /* operations before this row */
    int32_t x;       /* of the row's first neuron */
} Service;

/* Send the neurons of one vector that fired; `lane` is that of its first within the row. */
static inline void send(Service *s, uint32_t fired, int lane) {
    Core *core = s->core;
    for (; fired; fired &= fired - 1) {
        uint32_t at = (uint32_t)(lane + __builtin_ctz(fired) / SPREAD);
        uint32_t features = (uint32_t)core->out_features;
        core->output_spikes++;
        if (--core->until_pass)
            continue;
        core->until_pass = core->decimator;
        *s->end = s->spike;
        s->end->t_ns = s->done_ns + ((s->done + at + 1) * core->op_ns_q20 >> 20);
        s->end->x = (uint8_t)(s->x + (int32_t)(at / features));
        s->end->feature = (uint16_t)(at % features);
        s->end++;
    }
}

/* Add a run of weights to a run of neurons. */
static inline void add_run(Service *s, int16_t *state, const int8_t *weights, int lanes, Rule r) {
    int lane = 0;
    for (; lane + WIDTH <= lanes; lane += WIDTH) {
        Vector v = add(load(state + lane), weights + lane, r.low);
        Fired fired = at_threshold(v, r.below);
        store(state + lane, v);
        if (__builtin_expect(bits(fired) != 0, 0)) {
            store(state + lane, after(v, fired, r.loss, r.kept));
            send(s, bits(fired), lane);
        }
    }
    int rest = lanes - lane;
    if (rest) {
        Vector before = load(state + lane);
        Vector v = add(before, weights + lane, r.low);
        Fired fired = at_threshold(v, r.below);
        store(state + lane, blend(after(v, fired, r.loss, r.kept), before, rest));
        send(s, bits(fired) & ((1u << rest * SPREAD) - 1), lane);
    }
}

/* Serve arrivals until all are done or the block is full; return how many were taken. */
static int64_t advance(Core *core, const Spike *arrivals, int64_t count) {
    Rule rule = {.low = all(core->threshold_low), .below = all(core->threshold_high - 1),
                 .loss = all(core->threshold_high), .kept = all(core->return_to_zero ? 0 : -1)};
    Service s = {.core = core, .end = core->sent};
    Spike *full = core->sent + BLOCK;
    int64_t taken = 0;
    for (; taken < count && s.end < full; taken++) {
        Spike arrival = arrivals[taken];
        ReachY ys = core->reach_y[arrival.y];
        ReachX xs = core->reach_x[arrival.x];
        int64_t feature = arrival.feature + core->feature_shift;
        if (ys.rows < 0 || xs.lanes < 0 || feature >= core->in_features)
            continue; /* what is left of a map that pooling does not divide */
        int64_t start_ns = arrival.t_ns > core->busy_ns ? arrival.t_ns : core->busy_ns;
        start_ns += core->fixed_ns;
        s.done_ns = start_ns + core->pipe_ns;
        s.done = 0;
        s.x = xs.x;
        s.spike = arrival;
        s.spike.y = (uint8_t)ys.y;
        int16_t *state = core->state + ys.first + xs.first;
        const int8_t *weights =
            core->weights + feature * core->channel_weights + ys.weights + xs.weights;
        for (int row = 0; row < ys.rows; row++) {
            add_run(&s, state, weights, xs.lanes, rule);
            state += core->row_lanes;
            weights += core->weights_step;
            s.done += xs.lanes;
            s.spike.y++;
        }
        core->busy_ns = start_ns + (s.done * core->op_ns_q20 >> 20);
        core->input_spikes++;
        core->synops += s.done;
    }
    core->sent_count = s.end - core->sent;
    return taken;
}

static int record(Core *core) {
    int64_t count = core->monitor_count + core->sent_count;
    if (count > core->monitor_room) {
        int64_t room = 2 * count;
        Spike *larger = realloc(core->monitor, (size_t)room * sizeof(Spike));
        if (!larger)
            return -1;
        core->monitor = larger;
        core->monitor_room = room;
    }
    memcpy(core->monitor + core->monitor_count, core->sent,
           (size_t)core->sent_count * sizeof(Spike));
    core->monitor_count = count;
    return 0;
}

/* Serve arrivals at the first of `cores`, and what they cause at the others; -1: out of memory. */
static int serve(Core *core, int cores, const Spike *arrivals, int64_t count) {
    while (count) {
        int64_t taken = advance(core, arrivals, count);
        arrivals += taken;
        count -= taken;
        if (core->monitored && record(core))
            return -1;
        if (cores > 1 && serve(core + 1, cores - 1, core->sent, core->sent_count))
            return -1;
    }
    return 0;
}

/* Run packed events through a chain, from where it is; -1: out of memory. */
int run_chain(Core *chain, int cores, const uint64_t *packed, int64_t count) {
    static _Thread_local Spike block[BLOCK];
    for (int64_t first = 0; first < count; first += BLOCK) {
        int64_t size = count - first < BLOCK ? count - first : BLOCK;
        for (int64_t n = 0; n < size; n++) {
            uint64_t event = packed[first + n];
            block[n] = (Spike){.t_ns = (int64_t)(event >> 28) * NS_PER_US,
                               .cause = (int32_t)(first + n),
                               .feature = event >> 14 & 1023,
                               .y = event >> 7 & 127,
                               .x = event & 127};
        }
        if (serve(chain, cores, block, size))
            return -1;
    }
    return 0;
}

/* Give a core's monitored spikes back to the system. */
void forget(Core *core) {
    free(core->monitor);
    core->monitor = NULL;
    core->monitor_count = core->monitor_room = 0;
}
