/* From a fresh fork to the tool's program: the last steps of root before exec. */

#include "call_helper.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#if __has_include(<linux/landlock.h>)
#include <linux/landlock.h>
#endif

enum { STATUS_FD = 3, OPEN_FILES = 1024, OLDEST_LIMIT = 4096 };

static int status = -1;

static _Noreturn void fail(const char *what)
{
    char text[SPAWN_TEXT_BYTES];
    int length = snprintf(text, sizeof text, "error %s: %s\n", what, strerror(errno));
    size_t size = length < 0 ? 0 : length >= (int)sizeof text ? sizeof text - 1 : (size_t)length;
    /* The parent also sees exit status 127 and no `floor` line. */
    _exit(write(status, text, size) == (ssize_t)size ? 127 : 126);
}

/* Standard streams on 0 to 2, the status pipe on 3 until exec, nothing else open. */
static void wire(const struct job *job)
{
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (null < 0)
        fail("/dev/null");
    if (dup2(null, STDIN_FILENO) < 0 || dup2(job->stdout_fd, STDOUT_FILENO) < 0 ||
        dup2(job->stderr_fd, STDERR_FILENO) < 0)
        fail("standard streams");
    if (status != STATUS_FD) {
        if (dup3(status, STATUS_FD, O_CLOEXEC) < 0)
            fail("status pipe");
        status = STATUS_FD;
    }
#ifdef SYS_close_range
    if (syscall(SYS_close_range, STATUS_FD + 1U, ~0U, 0U) == 0)
        return;
#endif
    struct rlimit files;
    rlim_t end = OLDEST_LIMIT;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur != RLIM_INFINITY && files.rlim_cur > end)
        end = files.rlim_cur;
    for (int fd = STATUS_FD + 1; (rlim_t)fd < end; fd++)
        (void)close(fd);
}

static void limit(const char *name, int resource, rlim_t wanted)
{
    struct rlimit now;
    if (getrlimit(resource, &now) != 0)
        fail(name);
    rlim_t most = now.rlim_max != RLIM_INFINITY && now.rlim_max < wanted ? now.rlim_max : wanted;
    if (setrlimit(resource, &(struct rlimit){most, most}) != 0)
        fail(name);
}

/* The tool dies first when memory runs out; a wish, not a need. */
static void die_first(void)
{
    int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    ssize_t ignored = write(fd, "1000", 4);
    (void)ignored;
    (void)close(fd);
}

#if defined SYS_landlock_create_ruleset && defined LANDLOCK_ACCESS_FS_REFER
static bool allow(long rules, const char *folder, uint64_t access)
{
    struct landlock_path_beneath_attr rule = {.allowed_access = access,
                                              .parent_fd = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC)};
    bool done = rule.parent_fd >= 0 && syscall(SYS_landlock_add_rule, rules, LANDLOCK_RULE_PATH_BENEATH, &rule, 0U) == 0;
    (void)close(rule.parent_fd);
    return done;
}

/*
 * The tool opens nothing for writing outside the folders that are there to be written to: not its own oom_score_adj,
 * which it could set back until the kernel chooses the runner, nor its own memory. A wish: older kernels have no Landlock.
 */
static void keep_out_of_proc(const char *cwd)
{
    const uint64_t write_file = LANDLOCK_ACCESS_FS_WRITE_FILE, refer = LANDLOCK_ACCESS_FS_REFER;
    struct landlock_ruleset_attr handled = {.handled_access_fs = write_file | refer};
    long rules = syscall(SYS_landlock_create_ruleset, &handled, sizeof handled, 0U);
    if (rules < 0)
        return;
    /* Renaming from folder to folder is `refer`, which a ruleset forbids unless it names it. */
    if (allow(rules, "/", refer) && allow(rules, cwd, write_file) && allow(rules, "/tmp", write_file) &&
        allow(rules, "/var/tmp", write_file) && allow(rules, "/dev", write_file))
        (void)syscall(SYS_landlock_restrict_self, rules, 0U);
    (void)close((int)rules);
}
#else
static void keep_out_of_proc(const char *cwd)
{
    (void)cwd;
}
#endif

static void enter_cgroup(const char *folder)
{
    char path[4096];
    if (snprintf(path, sizeof path, "%s/cgroup.procs", folder) >= (int)sizeof path)
        errno = ENAMETOOLONG;
    else {
        int fd = open(path, O_WRONLY | O_CLOEXEC);
        if (fd >= 0 && write(fd, "0", 1) == 1 && close(fd) == 0)
            return;
    }
    fail(folder);
}

/* What this process ignores and blocks for itself; all else has its default since its start. */
static void default_signals(void)
{
    sigset_t none;
    sigemptyset(&none);
    if (signal(SIGPIPE, SIG_DFL) == SIG_ERR || sigprocmask(SIG_SETMASK, &none, NULL) != 0)
        fail("signals");
}

static void drop_privileges(const struct job *job)
{
    if (job->switch_user) {
        if (setgroups(0, NULL) != 0)
            fail("setgroups");
        if (setresgid(job->gid, job->gid, job->gid) != 0)
            fail("setresgid");
        if (setresuid(job->uid, job->uid, job->uid) != 0)
            fail("setresuid");
    }
    if (prctl(PR_SET_NO_NEW_PRIVS, 1L, 0L, 0L, 0L) != 0)
        fail("prctl(PR_SET_NO_NEW_PRIVS)");
    if (job->switch_user)
        keep_out_of_proc(job->cwd);
}

/* Replace this process by the program, found along PATH. */
static _Noreturn void execute(char **argv)
{
    const char *path = getenv("PATH");
    int refusal = ENOENT;
    if (argv[0][0] == '/') {
        (void)execv(argv[0], argv);
        fail(argv[0]);
    }
    for (const char *folder = path == NULL ? "" : path; *folder != '\0';) {
        size_t length = strcspn(folder, ":");
        char file[4096];
        int size = snprintf(file, sizeof file, "%.*s/%s", (int)length, folder, argv[0]);
        if (size > 0 && (size_t)size < sizeof file) {
            (void)execv(file, argv);
            if (errno != ENOENT && errno != ENOTDIR)
                refusal = errno;
        }
        folder += length + (folder[length] == ':');
    }
    errno = refusal;
    fail(argv[0]);
}

_Noreturn void become(const struct job *job, int status_fd)
{
    status = status_fd;
    if (setsid() < 0)
        fail("setsid");
    wire(job);
    limit("RLIMIT_NOFILE", RLIMIT_NOFILE, OPEN_FILES);
    limit("RLIMIT_CORE", RLIMIT_CORE, 0);
    limit("RLIMIT_FSIZE", RLIMIT_FSIZE, job->fsize_bytes);
    die_first();
    default_signals();
    (void)umask(022);
    if (chdir(job->cwd) != 0)
        fail(job->cwd);
    if (*job->cgroup != '\0')
        enter_cgroup(job->cgroup);
    drop_privileges(job);

    struct rusage usage;
    char text[40];
    if (getrusage(RUSAGE_SELF, &usage) != 0)
        fail("getrusage");
    int length = snprintf(text, sizeof text, "floor %ld\n", usage.ru_maxrss);
    if (length < 0 || write(status, text, (size_t)length) != length)
        fail("status pipe");
    execute(job->argv);
}
