/* Turns to log in. sshd counts the connections that have not logged in yet and drops new ones at random from ten of them on
 * (MaxStartups 10:30:100, sshd_config(5) of OpenSSH 9.2). Fifty machines behind one gateway that was cut come back in the same
 * instant: they go a few at a time, those first for whom somebody waits.
 *
 * A place is taken from before the connection until the login ended, well or not. At most TURNS_MAX are taken at one sshd (address and
 * port), and at one address whatever its ports; but a login that is slow waits for its own machine, or for a person, and is then
 * counted at its own port only: eight dead machines must not keep their neighbours out. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct loop;
struct turn;
struct turns;

#define TURNS_MAX     8u
#define TURN_SLOW_MS  3000u
#define TURN_LEAVE_MS 100u /* sshd counts a login until its process has seen that it ended */

struct turns *turns_new(struct loop *l);
struct turns *turns_free(struct turns *all); /* turns that are left begin no more; NULL is fine */

/* host: as written, a name or an address. begin() runs once, from the run queue, when there is a place, and not after turn_free(). */
struct turn *turn_new(struct turns *all, const char *host, uint16_t port, void (*begin)(void *ctx), void *ctx);
/* Somebody waits: before all for whom nobody does. */
void turn_hurry(struct turn *t, bool hurries);
bool turn_has_begun(const struct turn *t);
/* The login ended, or is not wanted any more. NULL is fine; returns NULL. */
struct turn *turn_free(struct turn *t);
