/*
 * How long a server keeps a stranger waiting: small GETs on one connection of its own.
 *
 *     probe PORT PATH
 *
 * One request a millisecond, or the next when the last is answered. Ends with stdin, and
 * prints one line of JSON: count, and the time to the whole answer in ms (p50, p99, max).
 */

#include "http.h"

#include <sched.h>

enum { INTERVAL = 1000000 /* ns */, ROOM = 65536, MOST = 1 << 20 };

static int by_size(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    end_with_parent();
    /* The load shares this core: where it is allowed, do not wait for its turn to end. */
    struct sched_param first = {.sched_priority = 1};
    sched_setscheduler(0, SCHED_FIFO, &first);
    char request[1024], reply[ROOM];
    int size = snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", argv[2]);
    uint64_t *waits = malloc(MOST * sizeof *waits);
    size_t count = 0;
    int fd = dial(atoi(argv[1]));
    struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
    for (uint64_t due = now_ns(); count < MOST && poll(&input, 1, 0) == 0;) {
        uint64_t start = now_ns();
        size_t have = 0;
        send_all(fd, request, (size_t)size);
        do {
            ssize_t got = recv(fd, reply + have, ROOM - 1 - have, 0);
            if (got <= 0) die("the server closed the connection of the probe");
            have += (size_t)got;
            reply[have] = 0;
        } while (!message_length(reply));
        uint64_t end = now_ns();
        waits[count++] = end - start;
        due = due + INTERVAL > end ? due + INTERVAL : end;
        struct timespec until = {(time_t)(due / 1000000000u), (long)(due % 1000000000u)};
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
    }
    qsort(waits, count, sizeof *waits, by_size);
    printf("{\"count\": %zu, \"p50\": %.3f, \"p99\": %.3f, \"max\": %.3f}\n", count,
           (double)waits[count / 2] / 1e6, (double)waits[(size_t)((double)(count - 1) * 0.99)] / 1e6,
           (double)waits[count - 1] / 1e6);
}
