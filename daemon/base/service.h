/* What the service manager (systemd) gave us at the start, and what it is told. Without one nothing here does anything.
 * sd_listen_fds(3), sd_notify(3), sd_watchdog_enabled(3) of systemd 252. A manager that hangs never stops the loop: what it does not
 * take is told again. */
#pragma once

#include <stdbool.h>

struct loop;
struct service;

/* Composes the line that `systemctl status` shows; the caller frees it. */
typedef char *(*service_status_fn)(void *ctx);

/* Reads and clears LISTEN_FDS and WATCHDOG_USEC. status() is asked after service_changed(), from the loop. */
struct service *service_new(struct loop *l, service_status_fn status, void *ctx);
/* Sockets that nobody took are closed. */
struct service *service_free(struct service *s);

/* A listening socket passed under this name (FileDescriptorName=), from now on the caller's; 0: there is none. Of several with
 * one name the first is handed out, and the log names the rest at service_ready(). */
int service_take_socket(struct service *s, const char *name);
/* Everything is open: from now on the watchdog is fed, from a timer on the loop at half its time, so that a loop that hangs is
 * noticed. */
void service_ready(struct service *s);
/* When we are a service of a person: the file that is there when such services go on after logout. NULL: no logout ends us.
 * systemd.exec(5) MANAGERPID, loginctl(1) enable-linger, of systemd 252. Borrowed. */
const char *service_linger_file(const struct service *s);
/* We are a service of the machine: nobody's session is ours, so no ssh-agent is there. systemd.exec(5) INVOCATION_ID, of systemd 252. */
bool service_is_system(const struct service *s);
/* What status() says may be different now. It is asked at most once a second, and told only when it is. */
void service_changed(struct service *s);
void service_stopping(struct service *s);
