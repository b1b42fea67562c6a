/*
 * The load: readers and publishers of one server, driven by lines on stdin.
 *
 *     load port=N[,N...] read=PATH speak=WORD post=PATH headers=TEXT body=TEXT
 *          batch=PATH batch_headers=TEXT line=TEXT post_port=N say=PATH
 *          redis=PORT amqp=PORT exchange=NAME
 *
 * `{channel}` and `{message}` in these are filled in. Readers connect to the ports in turn, and
 * speak `events` (server-sent), `websocket` (raw messages) or `socketio` (over websocket).
 * Each command is answered by one line of JSON:
 *
 *     by WAY                         how messages are handed in from here on: `http` (POST to
 *                                    post_port), `websocket` (frames to `say`), `redis`
 *                                    (PUBLISH) or `amqp` (basic.publish), past the daemon
 *     use LETTER COUNT               the channels of what follows: LETTER0 ... LETTER(COUNT-1)
 *     open COUNT                     open readers on them in turn, wait for all response heads
 *     publish COUNT INFLIGHT LINES DEPTH
 *                                    closed loop: on each of INFLIGHT connections DEPTH requests
 *                                    of LINES messages are out, sent together, followed by the
 *                                    next when every reader has all of it
 *     pace COUNT RATE                open loop: RATE messages a second, latencies recorded
 *
 * While nothing is ready it naps instead of waiting in epoll_wait(2): a sleeper is woken by the
 * send(2) that reaches it, and the server would pay for that, the more the slower it is. Only
 * `pace`, which measures time, does not nap.
 */

#include "publishers.h"
#include "readers.h"

enum {
    EVENTS = 512,
    OPENING = 32,  /* connections being opened at a time; Twisted's backlog is 50 */
    NAP = 200,     /* us */
    PATIENCE = 10, /* seconds without an event until the rest counts as lost */
};

/* Take what is ready; if nothing is, nap. Returns how many events there were. */
static int turn(long nap) {
    struct epoll_event events[EVENTS];
    int ready = epoll_wait(epoll, events, EVENTS, 0);
    if (ready == 0 && nap) {
        struct timespec pause = {0, nap * 1000};
        nanosleep(&pause, NULL);
    }
    uint64_t now = now_ns();
    for (int i = 0; i < ready; i++) {
        uint64_t tag = events[i].data.u64;
        if (tag >= PUBLISHER) {
            read_reply(&publishers[tag - PUBLISHER]);
            continue;
        }
        struct reader *r = &readers[tag];
        if (r->state == CONNECTING)
            ask((uint32_t)tag);
        else if (r->state != CLOSED)
            read_from(r, now);
    }
    return ready;
}

/* Whether nothing has happened for too long; to be asked after each turn. */
static int stuck(int ready, uint64_t *quiet_since) {
    if (ready || !*quiet_since) *quiet_since = now_ns();
    return now_ns() - *quiet_since > PATIENCE * 1000000000ull;
}

static int by_size(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static void print_latencies(const char *name, uint32_t *us, size_t count) {
    if (!count) return;
    qsort(us, count, sizeof *us, by_size);
    printf(", \"%s_p50\": %.3f, \"%s_p99\": %.3f, \"%s_max\": %.3f", name, us[count / 2] / 1e3, name,
           us[(size_t)((double)(count - 1) * 0.99)] / 1e3, name, us[count - 1] / 1e3);
}

static double cpu_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void report(uint32_t count, double seconds, double cpu) {
    for (uint32_t i = 0; i < message_count; i++) lost += messages[i].missing;
    for (uint32_t i = 0; i < WAYS * PUBLISHERS; i++) lost += (uint64_t)publishers[i].waiting;
    printf("{\"count\": %u, \"seconds\": %.6f, \"load_cpu\": %.6f, \"deliveries\": %lu, "
           "\"lost\": %lu, \"repeated\": %lu, \"disordered\": %lu, \"strayed\": %lu, "
           "\"closed\": %lu, \"refused\": %lu",
           count, seconds, cpu, deliveries, lost, repeated, disordered, strayed, closed, refused);
    print_latencies("each", each, each_count);
    print_latencies("last", last, last_count);
    printf("}\n");
    fflush(stdout);
    if (refused) fprintf(stderr, "%s\n", refusal);
}

static void open_readers(uint32_t count) {
    uint32_t first = reader_count, wanted = live + count;
    uint64_t quiet_since = 0;
    readers = realloc(readers, (reader_count + count) * sizeof *readers);
    for (int ready = 1; live + closed < wanted && !stuck(ready, &quiet_since); ready = turn(NAP))
        while (reader_count < first + count && reader_count < live + closed + OPENING)
            connect_reader(reader_count++);
    lost += wanted - live;
}

/* Whether the first `count` publishers have all they wait for. */
static int all_arrived(uint32_t count) {
    const struct publisher *first = &publishers[way * PUBLISHERS];
    for (uint32_t i = 0; i < count; i++)
        if (first[i].waiting || first[i].missing) return 0;
    return 1;
}

static void publish_closed(uint32_t count, uint32_t inflight, uint32_t lines, uint32_t depth) {
    uint64_t quiet_since = 0;
    uint32_t sent = 0;
    int ready = 1;
    while ((sent < count || !all_arrived(inflight)) && !stuck(ready, &quiet_since)) {
        for (uint16_t i = 0; i < inflight && sent < count; i++) {
            struct publisher *p = publisher(i);
            if (p->waiting || p->missing) continue;
            publish(i, lines, depth, now_ns());
            sent += lines * depth;
        }
        ready = turn(NAP);
    }
}

static void publish_paced(uint32_t count, double rate) {
    uint64_t start = now_ns() + 10000000, quiet_since = 0;
    uint32_t sent = 0, most = 0;
    int ready = 1;
    for (uint32_t i = first_channel; i < channel_count; i++)
        if (channels[i].readers > most) most = channels[i].readers;
    each = malloc(((size_t)count * most + 1) * sizeof *each);
    last = malloc((count + 1) * sizeof *last);
    while ((sent < count || !all_arrived(publisher_counts[way])) && !stuck(ready, &quiet_since)) {
        /* Timed from when it was due, so that being late ourselves is not hidden. */
        uint64_t due = start + (uint64_t)(sent * 1e9 / rate);
        if (sent < count && now_ns() >= due) {
            uint16_t idle = 0;
            while (idle < PUBLISHERS - 1 && publisher(idle)->waiting) idle++;
            publish(idle, 1, 1, due);
            sent++;
        }
        ready = turn(0);
    }
}

static int word_number(const char *word, const char *const *known) {
    for (int i = 0; known[i]; i++)
        if (strcmp(word, known[i]) == 0) return i;
    errno = 0;
    die(word);
    return 0;
}

static void obey(const char *line) {
    char word[16], letter;
    uint32_t a = 0, b = 0, c = 1, d = 1;
    double rate;
    deliveries = lost = repeated = disordered = strayed = closed = refused = 0;
    each_count = last_count = 0;
    uint64_t start = now_ns();
    double cpu = cpu_seconds();
    if (sscanf(line, "use %c %u", &letter, &a) == 2 && a) {
        first_channel = channel_count;
        channel_count += a;
        next_channel = 0;
        channels = realloc(channels, channel_count * sizeof *channels);
        for (uint32_t i = 0; i < a; i++)
            channels[first_channel + i] = (struct channel){.letter = letter, .number = i};
    } else if (sscanf(line, "open %u", &a) == 1) {
        open_readers(a);
    } else if (sscanf(line, "publish %u %u %u %u", &a, &b, &c, &d) == 4 && b && b <= PUBLISHERS &&
               c && d) {
        publish_closed(a, b, c, d);
    } else if (sscanf(line, "pace %u %lf", &a, &rate) == 2) {
        publish_paced(a, rate);
    } else if (sscanf(line, "by %15s", word) == 1) {
        way = word_number(word, (const char *[]){"http", "websocket", "redis", "amqp", NULL});
    } else {
        errno = 0;
        sscanf(line, "%15s", word);
        die(word);
    }
    report(a, (double)(now_ns() - start) / 1e9, cpu_seconds() - cpu);
    free(each);
    free(last);
    each = last = NULL;
}

static const char *argument(int argc, char **argv, const char *name, const char *otherwise) {
    size_t size = strlen(name);
    for (int i = 1; i < argc; i++)
        if (strncmp(argv[i], name, size) == 0 && argv[i][size] == '=') return argv[i] + size + 1;
    return otherwise;
}

int main(int argc, char **argv) {
    end_with_parent();
    char *list = strdup(argument(argc, argv, "port", "0"));
    for (char *one = strtok(list, ","); one && port_count < PORTS; one = strtok(NULL, ","))
        ports[port_count++] = atoi(one);
    speak = word_number(argument(argc, argv, "speak", "events"),
                        (const char *[]){"events", "websocket", "socketio", NULL});
    way_ports[BY_HTTP] = atoi(argument(argc, argv, "post_port", "0"));
    if (!way_ports[BY_HTTP]) way_ports[BY_HTTP] = ports[0];
    way_ports[BY_WEBSOCKET] = ports[0];
    way_ports[BY_REDIS] = atoi(argument(argc, argv, "redis", "0"));
    way_ports[BY_AMQP] = atoi(argument(argc, argv, "amqp", "0"));
    exchange = argument(argc, argv, "exchange", "");
    say_path = argument(argc, argv, "say", "/{channel}");
    read_path = argument(argc, argv, "read", "/{channel}");
    post_path = argument(argc, argv, "post", "/{channel}");
    headers = argument(argc, argv, "headers", "");
    body = argument(argc, argv, "body", "{message}");
    batch_path = argument(argc, argv, "batch", "/");
    batch_headers = argument(argc, argv, "batch_headers", "");
    line_text = argument(argc, argv, "line", "{message}\n");
    epoll = epoll_create1(0);
    char line[256];
    while (fgets(line, sizeof line, stdin)) obey(line);
}
