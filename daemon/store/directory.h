/* Private to store/. The state directory: it is ours, nobody else writes to it, and one daemon at a time has it. */
#pragma once

struct fault;
struct stat;

/* Makes it when it is not there. */
int directory_check(const char *directory, struct fault *f);
/* A plain file of ours, by what lstat() says. */
int directory_check_file(const char *path, const struct stat *st, struct fault *f);
/* Opens or makes such a file; nobody else can read one that is made. */
int directory_make_file(const char *path, int *ret_fd, struct fault *f);
/* For as long as *ret_fd is open. -EBUSY: f names the process that has it. */
int directory_lock(const char *directory, int *ret_fd, struct fault *f);
