/*
 * The load: readers and publishers of one server, driven by lines on stdin.
 *
 *     load port=N read=PATH post=PATH headers=TEXT body=TEXT
 *          batch=PATH batch_headers=TEXT line=TEXT
 *
 * `{channel}` and `{message}` in these are filled in. Each command is answered by one line
 * of JSON:
 *
 *     use LETTER COUNT               the channels of what follows: LETTER0 ... LETTER(COUNT-1)
 *     open COUNT                     open readers on them in turn, wait for all response heads
 *     publish COUNT INFLIGHT LINES   closed loop: INFLIGHT requests of LINES messages are out,
 *                                    each followed by the next when every reader has all of it
 *     pace COUNT RATE                open loop: RATE messages a second, latencies recorded
 *
 * While nothing is ready it naps instead of waiting in epoll_wait(2): a sleeper is woken by the
 * send(2) that reaches it, and the server would pay for that, the more the slower it is. Only
 * `pace`, which measures time, does not nap.
 *
 * A message is 100 bytes that begin with ~NUMBER~. The first reader of a channel to receive a
 * message decides its place in the channel's log; all others must agree with the log, and every
 * message must be in it once: nothing lost, repeated or out of order goes unnoticed.
 */

#include "http.h"

#include <sys/epoll.h>

enum {
    PAYLOAD = 100,
    MARK = 12,               /* ~0123456789~ */
    CHUNK = 256 * 1024,      /* one read of a reader */
    EVENTS = 512,
    OPENING = 32,            /* connections being opened at a time; Twisted's backlog is 50 */
    PER_ADDRESS = 5000,      /* readers a source address, far from the end of its ports */
    PUBLISHERS = 256,
    REPLY = 16 * 1024,
    NAP = 200,               /* us */
    PATIENCE = 10,           /* seconds without an event until the rest counts as lost */
};

enum state { CONNECTING, WAITING, LIVE, CLOSED };

struct reader {
    int fd;
    enum state state;
    uint32_t channel, place; /* place: how far in the channel's log it is */
    uint32_t kept;           /* bytes in `cut` */
    char cut[MARK];          /* the end of the last read, if a mark may go on after it */
};

struct channel {
    char letter;
    uint32_t number, readers;
    uint32_t *log, length, room;
};

struct message {
    uint64_t sent;
    uint32_t channel, missing; /* readers that have not got it */
    uint16_t publisher, logged;
};

struct publisher {
    int fd, waiting;  /* for its response */
    uint32_t missing; /* messages of its request that some reader has not got */
    size_t have;
    char reply[REPLY];
};

static const char *port, *read_path, *post_path, *headers, *body, *batch_path, *batch_headers,
    *line_text;

static int epoll;
static struct reader *readers;
static struct channel *channels;
static struct message *messages;
static struct publisher publishers[PUBLISHERS];
static uint32_t reader_count, live, channel_count, first_channel, message_count, next_channel;
static uint32_t publisher_count;
static size_t message_room;

/* Of the command under way. */
static uint64_t deliveries, lost, repeated, disordered, strayed, closed, refused;
static uint32_t *each, *last; /* latencies in us, to every reader and to the last one */
static size_t each_count, last_count;
static char refusal[256];

static char *fill(char *to, const char *template, const char *channel, const char *message) {
    while (*template) {
        const char *value = NULL;
        if (strncmp(template, "{channel}", 9) == 0) value = channel;
        if (strncmp(template, "{message}", 9) == 0) value = message;
        if (!value) {
            *to++ = *template++;
            continue;
        }
        to = stpcpy(to, value);
        template += 9;
    }
    *to = 0;
    return to;
}

static void name_of(const struct channel *channel, char *name) {
    sprintf(name, "%c%u", channel->letter, channel->number);
}

static void watch(int fd, uint32_t events, uint64_t tag, int change) {
    struct epoll_event event = {.events = events, .data.u64 = tag};
    if (epoll_ctl(epoll, change, fd, &event) < 0) die("epoll_ctl");
}

/* Readers are tagged by their number, publishers by theirs from here on. */
static const uint64_t PUBLISHER = 1ull << 32;

static void connect_reader(uint32_t number) {
    struct reader *r = &readers[number];
    *r = (struct reader){.channel = first_channel + number % (channel_count - first_channel)};
    r->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (r->fd < 0) die("socket");
    int one = 1;
    struct linger reset = {1, 0}; /* leaves no TIME_WAIT, so the next run has all ports */
    setsockopt(r->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    setsockopt(r->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
    struct sockaddr_in from = {.sin_family = AF_INET}, to = from;
    from.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1 + number / PER_ADDRESS);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    to.sin_port = htons((uint16_t)atoi(port));
    if (bind(r->fd, (struct sockaddr *)&from, sizeof from) < 0) die("bind");
    if (connect(r->fd, (struct sockaddr *)&to, sizeof to) < 0 && errno != EINPROGRESS)
        die("connect");
    watch(r->fd, EPOLLOUT, number, EPOLL_CTL_ADD);
}

static void ask(uint32_t number) {
    struct reader *r = &readers[number];
    char name[16], path[1024], request[2048];
    name_of(&channels[r->channel], name);
    fill(path, read_path, name, "");
    int size = sprintf(request,
                       "GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\r\n",
                       path);
    watch(r->fd, EPOLLIN | EPOLLET, number, EPOLL_CTL_MOD);
    r->state = WAITING;
    send_all(r->fd, request, (size_t)size);
}

static void receive(struct reader *r, uint32_t number, uint64_t now) {
    if (number >= message_count) {
        strayed++;
        return;
    }
    struct message *m = &messages[number];
    struct channel *c = &channels[r->channel];
    if (m->channel != r->channel) {
        strayed++;
        return;
    }
    if (r->place == c->length) {
        if (m->logged) {
            repeated++;
            return;
        }
        m->logged = 1;
        if (c->length == c->room) {
            c->room = c->room ? c->room * 2 : 4;
            c->log = realloc(c->log, c->room * sizeof *c->log);
        }
        c->log[c->length++] = number;
    } else if (c->log[r->place] != number) {
        disordered++;
        return;
    }
    r->place++;
    deliveries++;
    if (each) each[each_count++] = (uint32_t)((now - m->sent) / 1000);
    if (--m->missing == 0) {
        publishers[m->publisher].missing--;
        if (last) last[last_count++] = (uint32_t)((now - m->sent) / 1000);
    }
}

static void scan(struct reader *r, char *from, char *end, uint64_t now) {
    for (;;) {
        char *mark = memchr(from, '~', (size_t)(end - from));
        if (!mark) return;
        if (end - mark < MARK) {
            r->kept = (uint32_t)(end - mark);
            memcpy(r->cut, mark, r->kept);
            return;
        }
        uint32_t number = 0;
        for (int i = 1; i < MARK - 1; i++) number = number * 10 + (uint32_t)(mark[i] - '0');
        receive(r, number, now);
        from = mark + PAYLOAD < end ? mark + PAYLOAD : end;
    }
}

static void read_from(struct reader *r, uint64_t now) {
    static char buffer[MARK + CHUNK];
    for (;;) {
        memcpy(buffer, r->cut, r->kept);
        char *from = buffer + r->kept;
        ssize_t got = recv(r->fd, from, CHUNK, 0);
        if (got < 0 && errno == EAGAIN) return;
        if (got <= 0) {
            closed++;
            live -= r->state == LIVE;
            r->state = CLOSED;
            close(r->fd);
            return;
        }
        char *end = from + got;
        from = buffer;
        r->kept = 0;
        if (r->state == WAITING) {
            /* A head comes in one piece from all servers met here, or this says so. */
            char *body_at = memmem(from, (size_t)(end - from), "\r\n\r\n", 4);
            if (!body_at || strncmp(from, "HTTP/1.1 200", 12) != 0) {
                refused++;
                snprintf(refusal, sizeof refusal, "%.*s", (int)(end - from), from);
            }
            if (!body_at) return;
            from = body_at + 4;
            r->state = LIVE;
            r->place = channels[r->channel].length;
            channels[r->channel].readers++;
            live++;
        }
        scan(r, from, end, each ? now_ns() : now);
        if (got < CHUNK) return;
    }
}

static struct publisher *publisher(uint32_t number) {
    while (publisher_count <= number) {
        struct publisher *p = &publishers[publisher_count];
        p->fd = dial(atoi(port));
        watch(p->fd, EPOLLIN, PUBLISHER + publisher_count++, EPOLL_CTL_ADD);
    }
    return &publishers[number];
}

static uint32_t new_message(uint16_t by, uint64_t sent, char *payload) {
    if (message_count == message_room) {
        message_room = message_room ? message_room * 2 : 65536;
        messages = realloc(messages, message_room * sizeof *messages);
    }
    uint32_t channel = first_channel + next_channel++ % (channel_count - first_channel);
    uint32_t missing = channels[channel].readers;
    messages[message_count] = (struct message){sent, channel, missing, by, 0};
    if (missing) publishers[by].missing++;
    memset(payload, 'x', PAYLOAD);
    payload[PAYLOAD] = 0;
    payload[sprintf(payload, "~%010u~", message_count++)] = 'x';
    return channel;
}

static void publish(uint16_t number, uint32_t lines, uint64_t sent) {
    static char content[1 << 20], request[(1 << 20) + 4096];
    struct publisher *p = publisher(number);
    char name[16], payload[PAYLOAD + 1], path[1024], *end = content;
    for (uint32_t i = 0; i < lines; i++) {
        name_of(&channels[new_message(number, sent, payload)], name);
        end = fill(end, lines > 1 ? line_text : body, name, payload);
    }
    fill(path, lines > 1 ? batch_path : post_path, name, "");
    int size = sprintf(request, "POST %s HTTP/1.1\r\nHost: 127.0.0.1\r\n%sContent-Length: %zu\r\n\r\n",
                       path, lines > 1 ? batch_headers : headers, (size_t)(end - content));
    memcpy(request + size, content, (size_t)(end - content));
    p->waiting = 1;
    send_all(p->fd, request, (size_t)size + (size_t)(end - content));
}

static void read_reply(struct publisher *p) {
    ssize_t got = recv(p->fd, p->reply + p->have, REPLY - 1 - p->have, MSG_DONTWAIT);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) {
        closed++;
        watch(p->fd, 0, 0, EPOLL_CTL_DEL);
        return;
    }
    p->have += (size_t)got;
    p->reply[p->have] = 0;
    size_t whole = message_length(p->reply);
    if (!whole) return;
    if (strncmp(p->reply, "HTTP/1.1 2", 10) != 0) {
        refused++;
        snprintf(refusal, sizeof refusal, "%s", p->reply);
    }
    memmove(p->reply, p->reply + whole, p->have - whole);
    p->have -= whole;
    p->waiting = 0;
}

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
    for (uint32_t i = 0; i < PUBLISHERS; i++) lost += (uint64_t)publishers[i].waiting;
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
    for (uint32_t i = 0; i < count; i++)
        if (publishers[i].waiting || publishers[i].missing) return 0;
    return 1;
}

static void publish_closed(uint32_t count, uint32_t inflight, uint32_t lines) {
    uint64_t quiet_since = 0;
    uint32_t sent = 0;
    int ready = 1;
    while ((sent < count || !all_arrived(inflight)) && !stuck(ready, &quiet_since)) {
        for (uint16_t i = 0; i < inflight && sent < count; i++) {
            struct publisher *p = publisher(i);
            if (p->waiting || p->missing) continue;
            publish(i, lines, now_ns());
            sent += lines;
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
    while ((sent < count || !all_arrived(publisher_count)) && !stuck(ready, &quiet_since)) {
        /* Timed from when it was due, so that being late ourselves is not hidden. */
        uint64_t due = start + (uint64_t)(sent * 1e9 / rate);
        if (sent < count && now_ns() >= due) {
            uint16_t idle = 0;
            while (idle < PUBLISHERS - 1 && publisher(idle)->waiting) idle++;
            publish(idle, 1, due);
            sent++;
        }
        ready = turn(0);
    }
}

static void obey(const char *line) {
    char word[16], letter;
    uint32_t a = 0, b = 0, c = 1;
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
    } else if (sscanf(line, "publish %u %u %u", &a, &b, &c) == 3 && b && b <= PUBLISHERS && c) {
        publish_closed(a, b, c);
    } else if (sscanf(line, "pace %u %lf", &a, &rate) == 2) {
        publish_paced(a, rate);
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
    port = argument(argc, argv, "port", "0");
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
