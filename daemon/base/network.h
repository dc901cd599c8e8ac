/* Tells when this machine's ways into the network are other ones than before: an address came or went (also with its link), or a
 * default route did. */
#pragma once

struct loop;
struct network_watch;

/* changed() runs from the loop, 0.1 s after the first sign of a change: a burst of them is one. What changed and came back in
 * between is none. Negative errno where the kernel's news cannot be had; it matters little then: pings find out too, later. */
int network_watch_new(struct loop *l, void (*changed)(void *ctx), void *ctx, struct network_watch **ret);
/* After this returns changed() will not run. NULL is fine; returns NULL. */
struct network_watch *network_watch_free(struct network_watch *w);
