/* A chain of cores as the twin runs it, in C with explicit vectors: how fast one thread can be.

   The semantics are those of docs/explanation/twin.md: integers, one arriving spike after the
   other, neurons in the order y, x, feature, at most one spike of a neuron for each arrival. Queues
   have `depth` places, with all that follows from it, or no end if it is 0.

   c_twin.py compiles this file; nothing is checked here. */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "twin_core.h"

enum { NS_PER_US = 1000, BLOCK = 2048, BINS = 1024 };

typedef struct {
    Core *cores;
    int64_t count;
    int64_t depth, ring_mask; /* places in front of a core; those of `starts`, less 1 */
    int64_t origin_ns, bin_log2;
    int64_t entered_ns, held_back_ns, held_back_events;
} Chain;

/* Queues without end: core after core; the next serves what one sent when a block is full. */

/* Serve arrivals until all are done or the block is full; return how many were taken. */
static int64_t advance(Core *core, const Spike *arrivals, int64_t count) {
    Rule rule = rule_of(core);
    Service s = {.core = core, .end = core->queue.spikes};
    Spike *full = core->queue.spikes + core->queue.room - core->neurons;
    int64_t taken = 0;
    for (; taken < count && s.end < full; taken++) {
        Spike arrival = arrivals[taken];
        if (is_inside(core, arrival)) {
            int64_t start_ns = larger(arrival.t_ns, core->busy_ns);
            serve(&s, arrival, start_ns, core->fixed_ns + core->pipe_ns, rule);
        }
    }
    core->queue.end = s.end - core->queue.spikes;
    return taken;
}

/* Serve arrivals at the first of `cores`, and what they cause at the others; -1: out of memory. */
static int run_endless(Core *core, int64_t cores, const Spike *arrivals, int64_t count) {
    while (count) {
        int64_t taken = advance(core, arrivals, count);
        arrivals += taken;
        count -= taken;
        Queue sent = core->queue;
        if (reserve(core, sent.end))
            return -1;
        if (core->monitored) {
            Spike *target = core->monitor + core->monitor_count;
            memcpy(target, sent.spikes, (size_t)sent.end * sizeof(Spike));
            core->monitor_count += sent.end;
        }
        if (cores > 1 && run_endless(core + 1, cores - 1, sent.spikes, sent.end))
            return -1;
    }
    return 0;
}

/* Queues with an end: a spike leaves when the core behind has started on the spike that came
   `depth` places before; until then it holds up its core and all that this one sends later. Times
   depend on nothing else, so each core goes on until its spikes find no more room or nothing waits
   for it; then the one behind, or before, does. */

static inline int64_t waiting(const Queue *queue) { return queue->gone - queue->taken; }

/* Since when the next spike of a queue has had a place in front of the core behind. */
static inline int64_t free_since(const Chain *chain, const Core *target, const Queue *queue) {
    int64_t number = target->input_spikes + waiting(queue) - chain->depth;
    return target->starts[number & chain->ring_mask];
}

/* Let events in as far as the first core has room; each leaves one pipe before its time. */
static void __attribute__((noinline)) enter(Chain *chain, Queue *input) {
    Core *target = chain->cores;
    int64_t pipe_ns = target->pipe_ns;
    for (; input->cursor < input->end; input->cursor++) {
        Spike event = input->spikes[input->cursor];
        int64_t leaves_ns = larger(event.t_ns - pipe_ns, chain->entered_ns);
        if (is_inside(target, event)) {
            if (waiting(input) == chain->depth)
                return;
            leaves_ns = larger(leaves_ns, free_since(chain, target, input));
            int64_t late_ns = leaves_ns + pipe_ns - event.t_ns;
            if (late_ns > 0) {
                chain->held_back_events++;
                chain->held_back_ns = larger(chain->held_back_ns, late_ns);
            }
            input->spikes[input->gone++] = (Spike){leaves_ns + pipe_ns, event.origin};
        }
        chain->entered_ns = leaves_ns;
    }
}

/* Let a core's spikes leave in the order of firing; whether all found room. What waits for the core
   behind closes up where a spike fell beyond its map. */
static inline int let_go(const Chain *chain, Core *core) {
    const Core *target = core + 1;
    Queue *queue = &core->queue;
    Spike *spike = queue->spikes + queue->cursor, *end = queue->spikes + queue->end;
    int64_t shift_ns = core->shift_ns;
    for (; spike < end; spike++) {
        int64_t leaves_ns = spike->t_ns + shift_ns;
        int is_taken = !target->may_miss || is_inside(target, *spike);
        if (is_taken) {
            if (waiting(queue) == chain->depth)
                break;
            leaves_ns = larger(leaves_ns, free_since(chain, target, queue));
            shift_ns = leaves_ns - spike->t_ns;
        }
        Spike arrival = {leaves_ns + core->pipe_ns, spike->origin};
        if (is_taken)
            queue->spikes[queue->gone++] = arrival;
        if (core->monitored)
            core->monitor[core->monitor_count++] = arrival;
    }
    core->stalled_ns += shift_ns - core->shift_ns;
    core->shift_ns = shift_ns;
    queue->cursor = spike - queue->spikes;
    if (spike < end)
        return 0;
    core->busy_ns += shift_ns;
    return 1;
}

/* Move what waits to the front of a queue that is short of room for all that can fire at once. */
static inline void make_room(Core *core) {
    Queue *queue = &core->queue;
    int64_t waits = waiting(queue);
    if (!waits) {
        queue->taken = queue->gone = 0;
    } else if (queue->gone + core->neurons > queue->room) {
        memmove(queue->spikes, queue->spikes + queue->taken, (size_t)waits * sizeof(Spike));
        queue->taken = 0;
        queue->gone = waits;
    }
    queue->cursor = queue->end = queue->gone;
}

/* Make all bins of load twice as wide. */
static void __attribute__((noinline)) widen(Chain *chain) {
    for (Core *core = chain->cores; core < chain->cores + chain->count; core++) {
        for (int n = 0; n < BINS / 2; n++)
            core->load[n] = core->load[2 * n] + core->load[2 * n + 1];
        memset(core->load + BINS / 2, 0, BINS / 2 * sizeof *core->load);
    }
    chain->bin_log2++;
}

/* Count operations at the time at which a service started. */
static inline void count_load(Chain *chain, Core *core, int64_t start_ns, int64_t operations) {
    int64_t since_ns = start_ns - chain->origin_ns;
    while (since_ns >> chain->bin_log2 >= BINS)
        widen(chain);
    core->load[since_ns >> chain->bin_log2] += operations;
}

/* Let a core's spikes leave and serve what waits for it as far as there is room; -1: no memory. */
static int __attribute__((noinline)) work_on(Chain *chain, Core *core, Queue *source) {
    int is_exit = core + 1 == chain->cores + chain->count;
    int64_t send_ns = core->fixed_ns + (is_exit ? core->pipe_ns : 0);
    Rule rule = rule_of(core);
    Service s = {.core = core};
    Queue *queue = &core->queue;
    while (queue->cursor == queue->end || let_go(chain, core)) {
        if (!waiting(source))
            return 0;
        if (reserve(core, core->neurons))
            return -1;
        make_room(core);
        Spike arrival = source->spikes[source->taken++];
        int64_t start_ns = larger(arrival.t_ns, core->busy_ns);
        core->starts[core->input_spikes & chain->ring_mask] = start_ns;
        core->shift_ns = 0;
        Spike *first = is_exit && core->monitored ? core->monitor + core->monitor_count
                                                  : queue->spikes + queue->end;
        s.end = first;
        serve(&s, arrival, start_ns, send_ns, rule);
        count_load(chain, core, start_ns, s.done);
        if (!is_exit)
            queue->end += s.end - first;
        else if (core->monitored)
            core->monitor_count += s.end - first;
    }
    return 0;
}

/* Run until all that came in has been served; -1: out of memory. */
static int run_finite(Chain *chain, Spike *events, int64_t count) {
    Queue input = {.spikes = events, .end = count};
    int64_t place = -1; /* the input */
    for (;;) {
        Queue *queue = place < 0 ? &input : &chain->cores[place].queue;
        Queue *source = place < 1 ? &input : &chain->cores[place - 1].queue;
        if (place < 0)
            enter(chain, &input);
        else if (work_on(chain, chain->cores + place, source))
            return -1;
        if (place + 1 < chain->count && waiting(queue))
            place++;
        else if (place < 0)
            return 0;
        else
            place--;
    }
}

/* Run packed events through a chain, from where it is; -1: out of memory. */
int run_chain(Chain *chain, const uint64_t *packed, int64_t count) {
    Spike block[BLOCK];
    for (int64_t first = 0; first < count; first += BLOCK) {
        int64_t size = count - first < BLOCK ? count - first : BLOCK;
        for (int64_t n = 0; n < size; n++) {
            uint64_t event = packed[first + n];
            block[n] = (Spike){.t_ns = (int64_t)(event >> 28) * NS_PER_US,
                               .origin = (uint64_t)(first + n) << 32 | (event >> 14 & 1023) << 16 |
                                         (event >> 7 & 127) << 8 | (event & 127)};
        }
        if (chain->depth ? run_finite(chain, block, size)
                         : run_endless(chain->cores, chain->count, block, size))
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
