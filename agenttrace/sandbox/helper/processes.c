/* Find and kill what belongs to the call, without forking: at its pid limit there is nothing to fork with. */

#include "call_helper.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_PROCESSES = 32768 };

struct process {
    pid_t pid, parent;
    uid_t real, effective;
    bool dead, mine;
    uint64_t rss_kib;
    char name[NAME_BYTES];
};

/* The value of a line `NAME:\tVALUE`, or NULL. */
static const char *field(const char *text, const char *name)
{
    size_t length = strlen(name);
    for (const char *line = text; line != NULL && *line != '\0'; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, name, length) == 0 && strncmp(line + length, ":\t", 2) == 0)
            return line + length + 2;
    }
    return NULL;
}

static bool read_process(int proc, const char *pid, struct process *process)
{
    char path[64], text[4096];
    (void)snprintf(path, sizeof path, "%.20s/status", pid);
    int fd = openat(proc, path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t size = read(fd, text, sizeof text - 1);
    (void)close(fd);
    if (size <= 0)
        return false;
    text[size] = '\0';
    const char *name = field(text, "Name"), *state = field(text, "State"), *parent = field(text, "PPid"),
               *uids = field(text, "Uid"), *rss = field(text, "VmRSS");
    if (state == NULL || parent == NULL || uids == NULL)
        return false;
    char *rest = NULL;
    *process = (struct process){.pid = (pid_t)strtol(pid, NULL, 10), .parent = (pid_t)strtol(parent, NULL, 10)};
    process->real = (uid_t)strtoul(uids, &rest, 10);
    process->effective = (uid_t)strtoul(rest, NULL, 10);
    process->dead = *state == 'Z' || *state == 'X';
    process->rss_kib = rss == NULL ? 0 : strtoull(rss, NULL, 10);
    (void)snprintf(process->name, sizeof process->name, "%.*s", name == NULL ? 1 : (int)strcspn(name, "\n"),
                   name == NULL ? "?" : name);
    return true;
}

/* Call `visit` for every living process; false when /proc cannot be read. */
static bool each(void (*visit)(struct process *, void *), void *state)
{
    struct process process;
    DIR *proc = opendir("/proc");
    if (proc == NULL)
        return false;
    for (struct dirent *entry; (errno = 0, entry = readdir(proc)) != NULL;)
        if (isdigit((unsigned char)entry->d_name[0]) && read_process(dirfd(proc), entry->d_name, &process) &&
            !process.dead)
            visit(&process, state);
    bool complete = errno == 0;
    (void)closedir(proc);
    return complete;
}

static void count(const struct process *process, struct census *census)
{
    census->count++;
    census->rss_kib += process->rss_kib;
    if (census->waiting != NULL) {
        note_waiting(census->waiting, process->pid, false);
        return; /* nobody asks for names */
    }
    int place = census->named;
    while (place > 0 && strcmp(census->names[place - 1], process->name) > 0)
        place--;
    if (place == MAX_NAMES)
        return;
    int moved = (census->named < MAX_NAMES ? census->named : MAX_NAMES - 1) - place;
    memmove(census->names[place + 1 < MAX_NAMES ? place + 1 : place], census->names[place],
            (size_t)moved * sizeof *census->names);
    memcpy(census->names[place], process->name, sizeof *census->names);
    census->named += census->named < MAX_NAMES;
}

struct search {
    uid_t uid;
    pid_t except;
    struct census *census;
};

static void count_of_user(struct process *process, void *state)
{
    struct search *search = state;
    if ((process->real == search->uid || process->effective == search->uid) && process->pid != search->except)
        count(process, search->census);
}

/* The table stands in memory that is never touched unless it is used. */
static struct process table[MAX_PROCESSES];
static size_t known;

static void collect(struct process *process, void *state)
{
    (void)state;
    if (known < MAX_PROCESSES)
        table[known++] = *process;
}

/* Mark every living descendant of this process in the table. */
static bool find_descendants(void)
{
    known = 0;
    bool complete = each(collect, NULL);
    for (bool changed = true; changed;) {
        changed = false;
        for (size_t i = 0; i < known; i++)
            if (!table[i].mine) {
                bool mine = table[i].parent == getpid();
                for (size_t j = 0; !mine && j < known; j++)
                    mine = table[j].mine && table[j].pid == table[i].parent;
                table[i].mine = mine;
                changed = changed || mine;
            }
    }
    return complete;
}

void take_census(const struct job *job, pid_t except, struct census *census)
{
    *census = (struct census){.waiting = census->waiting};
    if (job->switch_user) {
        struct search search = {.uid = job->uid, .except = except, .census = census};
        census->known = each(count_of_user, &search);
        return;
    }
    census->known = find_descendants();
    for (size_t i = 0; i < known; i++)
        if (table[i].mine && table[i].pid != except)
            count(&table[i], census);
}

/*
 * Kill every process of the tool's user in one pass of the kernel, which no fork bomb can outrun and which cannot hit
 * root's processes. The permission comes from the effective user alone; the real one is a user that nobody runs as, a
 * different one for each process that does this: else, in this moment, the tool or the runner could kill the helper.
 */
static void kill_user(const struct job *job)
{
    const uid_t nobody_at_all = UINT32_MAX - 1 - (uid_t)getpid();
    uid_t real, effective, saved;
    if (job->uid == 0 || job->uid == nobody_at_all || getuid() != 0)
        give_up(job->report_fd, "helper_error", "refusing to kill everything of user %u", job->uid);
    /* In a user namespace that other user may not exist; then the tool's own has to do. */
    if (setresuid(nobody_at_all, job->uid, 0) != 0 && setresuid(job->uid, job->uid, 0) != 0)
        give_up(job->report_fd, "helper_error", "setresuid(%u) to kill: %s", job->uid, strerror(errno));
    if (getresuid(&real, &effective, &saved) != 0 || real == 0 || effective != job->uid)
        give_up(job->report_fd, "helper_error", "refusing kill(-1) as user %u/%u", real, effective);
    int result = kill(-1, SIGKILL), reason = errno;
    if (setresuid(0, 0, 0) != 0)
        give_up(job->report_fd, "helper_error", "setresuid(0): %s", strerror(errno));
    if (result != 0 && reason != ESRCH && reason != EPERM)
        give_up(job->report_fd, "helper_error", "kill(-1): %s", strerror(reason));
}

void kill_all(const struct job *job, pid_t main_pid)
{
    if (main_pid > 0) {
        (void)kill(-main_pid, SIGKILL);
        (void)kill(main_pid, SIGKILL); /* it may have no group, nor the tool's user, yet */
    }
    if (job->switch_user) {
        kill_user(job);
        return;
    }
    (void)find_descendants();
    for (size_t i = 0; i < known; i++)
        if (table[i].mine)
            (void)kill(table[i].pid, SIGKILL);
}
