/* Private to store/. The state directory: it is ours, nobody else writes to it, and one daemon at a time has it. */
#pragma once

struct fault;

/* Makes it when it is not there. */
int directory_check(const char *directory, struct fault *f);
/* Opens or makes a plain file of ours that nobody else reads. */
int directory_open_file(const char *path, int *ret_fd, struct fault *f);
/* For as long as *ret_fd is open. -EBUSY: f names the process that has it. */
int directory_lock(const char *directory, int *ret_fd, struct fault *f);
