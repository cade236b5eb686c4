/* One core of the C kernel: what an arriving spike does to its neurons, and who fires.

   c_twin.py fills `Core` in; nothing is checked here. State lies as (y, x, f) and weights as
   (c, ky, kx, f) with kernel columns reversed within each stride phase, so the neurons of one
   output row that an arrival reaches, and their weights, are one run each. */

#pragma once

#include <stdint.h>
#include <stdlib.h>

#include "twin_vector.h"

enum { COORDINATES = 256, Q20 = 20 };

/* Two words: what is stored in parts and loaded whole waits until the parts are in the cache. */
typedef struct {
    int64_t t_ns;
    uint64_t origin; /* cause << 32 | feature << 16 | y << 8 | x; cause: index of the input event */
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

/* What a core has fired, or the input. */
typedef struct {
    Spike *spikes;
    int64_t room;
    int64_t taken, gone;  /* from, to: what waits for the next core */
    int64_t cursor, end; /* from, to: what has not left */
} Queue;

typedef struct {
    /* From the configuration. */
    ReachY reach_y[COORDINATES];
    ReachX reach_x[COORDINATES];
    const int8_t *weights;
    int16_t *state;
    int64_t in_features, feature_shift, channel_weights; /* weights of one input feature */
    int64_t neurons, out_features, row_lanes; /* neurons of one row of the output map */
    int64_t weights_step;                     /* from a row's weights to the next row's, negative */
    int64_t threshold_high, threshold_low, return_to_zero, decimator, monitored;
    int64_t may_miss; /* whether what is sent to this core may fall beyond its map */
    int64_t fixed_ns, pipe_ns, op_ns_q20; /* ns of an operation, times 2^20 */
    /* Carried from call to call. */
    int64_t busy_ns, until_pass, input_spikes, output_spikes, synops;
    int64_t shift_ns, stalled_ns; /* how much later its spikes left: of this service, of all */
    Queue queue;
    int64_t *starts; /* a ring: when it started on its last spikes */
    int64_t *load;   /* synaptic operations of each bin of time */
    Spike *monitor;  /* all that was sent, if monitored; grows */
    int64_t monitor_count, monitor_room;
} Core;

/* What is alike for all neurons of a core. */
typedef struct {
    Vector low, below, loss, kept;
} Rule;

/* The arrival being served, and the row of the output map at which it is. */
typedef struct {
    Core *core;
    Spike *end;      /* behind the last spike sent */
    uint64_t origin; /* cause, row and first column of its spikes */
    int64_t done_ns; /* when a spike of no operation would be sent */
    int64_t done;    /* operations before this row */
} Service;

static inline int64_t larger(int64_t one, int64_t other) { return one > other ? one : other; }

static inline uint64_t y_of(Spike spike) { return spike.origin >> 8 & 255; }
static inline uint64_t x_of(Spike spike) { return spike.origin & 255; }

/* The input feature of a core at which a spike arrives. */
static inline int64_t feature_at(const Core *core, Spike spike) {
    return (int64_t)(spike.origin >> 16 & 0xffff) + core->feature_shift;
}

/* Whether a spike falls on a core's map, not on the rest that pooling does not divide. */
static inline int is_inside(const Core *core, Spike spike) {
    return core->reach_y[y_of(spike)].rows >= 0 && core->reach_x[x_of(spike)].lanes >= 0 &&
           feature_at(core, spike) < core->in_features;
}

static inline Rule rule_of(const Core *core) {
    return (Rule){.low = all(core->threshold_low), .below = all(core->threshold_high - 1),
                  .loss = all(core->threshold_high), .kept = all(core->return_to_zero ? 0 : -1)};
}

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
        s->end->t_ns = s->done_ns + ((s->done + at + 1) * core->op_ns_q20 >> Q20);
        s->end->origin = s->origin + (at % features << 16) + at / features;
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

/* Serve an arrival on the map; what fires goes to `s->end`, `send_ns` after the core started. */
static inline void serve(Service *s, Spike arrival, int64_t start_ns, int64_t send_ns, Rule rule) {
    Core *core = s->core;
    ReachY ys = core->reach_y[y_of(arrival)];
    ReachX xs = core->reach_x[x_of(arrival)];
    s->done_ns = start_ns + send_ns;
    s->done = 0;
    s->origin = (arrival.origin >> 32 << 32) + (uint64_t)(ys.y << 8) + (uint64_t)xs.x;
    int16_t *state = core->state + ys.first + xs.first;
    const int8_t *weights =
        core->weights + feature_at(core, arrival) * core->channel_weights + ys.weights + xs.weights;
    for (int row = 0; row < ys.rows; row++) {
        add_run(s, state, weights, xs.lanes, rule);
        state += core->row_lanes;
        weights += core->weights_step;
        s->done += xs.lanes;
        s->origin += 1 << 8;
    }
    core->busy_ns = start_ns + core->fixed_ns + (s->done * core->op_ns_q20 >> Q20);
    core->input_spikes++;
    core->synops += s->done;
}

/* Make room for so many more monitored spikes; -1: out of memory. */
static inline int reserve(Core *core, int64_t count) {
    int64_t wanted = core->monitor_count + count;
    if (!core->monitored || wanted <= core->monitor_room)
        return 0;
    Spike *grown = realloc(core->monitor, (size_t)(2 * wanted) * sizeof(Spike));
    if (!grown)
        return -1;
    core->monitor = grown;
    core->monitor_room = 2 * wanted;
    return 0;
}
