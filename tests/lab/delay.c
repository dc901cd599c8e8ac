/* delay QUEUE... -- DELAY_MS JITTER_MS LOSS_PERCENT
 *
 * A longer wire: the kernel hands packets over by NFQUEUE rules, each is let go on after its time, in order,
 * or dropped. It stands in for the kernel's netem, which not every kernel has. One line to stdout says that
 * all queues are bound. Queues are independent, one for each direction; a queue keeps its order even under
 * jitter, as a wire does.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <libnetfilter_queue/libnetfilter_queue.h>
#include <linux/netfilter.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#define QUEUES_MAX    8
#define HELD_MAX      65536u /* packets on one wire; more are dropped, as a full router would */
#define RECEIVE_BYTES (8 << 20)

struct held {
    uint32_t id;
    int64_t due_ns;
};

struct wire {
    struct nfq_handle *netlink;
    struct nfq_q_handle *queue;
    struct held held[HELD_MAX];
    uint32_t first, count;
    int64_t last_due_ns;
};

static struct wire wires[QUEUES_MAX];
static int64_t delay_ns, jitter_ns;
static double loss;

static int64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static int wire_on_packet(struct nfq_q_handle *queue, struct nfgenmsg *message, struct nfq_data *data,
                          void *ctx)
{
    struct wire *w = ctx;
    struct nfqnl_msg_packet_hdr *header = nfq_get_msg_packet_hdr(data);
    int64_t due_ns;

    (void)message;
    if (!header)
        return 0;
    if (drand48() < loss || w->count == HELD_MAX)
        return nfq_set_verdict(queue, ntohl(header->packet_id), NF_DROP, 0, NULL);
    due_ns = now_ns() + delay_ns + (int64_t)((double)jitter_ns * drand48());
    if (due_ns < w->last_due_ns)
        due_ns = w->last_due_ns;
    w->last_due_ns = due_ns;
    w->held[(w->first + w->count++) % HELD_MAX] = (struct held){ntohl(header->packet_id), due_ns};
    return 0;
}

static int wire_open(struct wire *w, uint16_t number)
{
    int size = RECEIVE_BYTES;

    w->netlink = nfq_open();
    if (!w->netlink)
        return -errno;
    w->queue = nfq_create_queue(w->netlink, number, wire_on_packet, w);
    if (!w->queue || nfq_set_mode(w->queue, NFQNL_COPY_META, 0) < 0 ||
        nfq_set_queue_maxlen(w->queue, HELD_MAX) < 0)
        return -errno;
    setsockopt(nfq_fd(w->netlink), SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size);
    return 0;
}

static void wire_let_go(struct wire *w, int64_t now)
{
    while (w->count && w->held[w->first].due_ns <= now) {
        nfq_set_verdict(w->queue, w->held[w->first].id, NF_ACCEPT, 0, NULL);
        w->first = (w->first + 1) % HELD_MAX;
        w->count--;
    }
}

/* ENOBUFS says that the kernel dropped packets because we were slow: a loss, as on any wire. */
static void wire_read(struct wire *w)
{
    static char buffer[1 << 16];

    for (;;) {
        ssize_t n = recv(nfq_fd(w->netlink), buffer, sizeof buffer, MSG_DONTWAIT);

        if (n < 0 && errno == ENOBUFS)
            continue;
        if (n <= 0)
            return;
        nfq_handle_packet(w->netlink, buffer, (int)n);
    }
}

/* The instant the next packet is due on any wire, or -1. */
static int64_t next_due_ns(int count)
{
    int64_t due = -1;

    for (int i = 0; i < count; i++)
        if (wires[i].count && (due < 0 || wires[i].held[wires[i].first].due_ns < due))
            due = wires[i].held[wires[i].first].due_ns;
    return due;
}

static int serve(int count)
{
    struct pollfd poll_fds[QUEUES_MAX];

    for (;;) {
        int64_t now = now_ns(), due;
        struct timespec pause = {0, 0};

        for (int i = 0; i < count; i++) {
            wire_let_go(&wires[i], now);
            poll_fds[i] = (struct pollfd){.fd = nfq_fd(wires[i].netlink), .events = POLLIN};
        }
        due = next_due_ns(count);
        if (due > now) {
            pause.tv_sec = (due - now) / 1000000000;
            pause.tv_nsec = (due - now) % 1000000000;
        }
        if (ppoll(poll_fds, (nfds_t)count, due < 0 ? NULL : &pause, NULL) < 0 && errno != EINTR) {
            perror("delay: poll");
            return 1;
        }
        for (int i = 0; i < count; i++)
            if (poll_fds[i].revents)
                wire_read(&wires[i]);
    }
}

int main(int argc, char **argv)
{
    int count = argc - 5;

    if (count < 1 || count > QUEUES_MAX || strcmp(argv[argc - 4], "--") != 0) {
        fputs("usage: delay QUEUE... -- DELAY_MS JITTER_MS LOSS_PERCENT\n", stderr);
        return 2;
    }
    delay_ns = (int64_t)(strtod(argv[argc - 3], NULL) * 1e6);
    jitter_ns = (int64_t)(strtod(argv[argc - 2], NULL) * 1e6);
    loss = strtod(argv[argc - 1], NULL) / 100;
    for (int i = 0; i < count; i++) {
        int r = wire_open(&wires[i], (uint16_t)strtoul(argv[i + 1], NULL, 10));

        if (r < 0) {
            fprintf(stderr, "delay: queue %s: %s\n", argv[i + 1], strerror(-r));
            return 1;
        }
    }
    puts("bound");
    fflush(stdout);
    return serve(count);
}
