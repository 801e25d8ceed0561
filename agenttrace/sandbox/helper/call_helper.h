/* The parts of the call helper; what it is for stands in call_helper.c. */

#ifndef AGENTTRACE_CALL_HELPER_H
#define AGENTTRACE_CALL_HELPER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

enum {
    MAX_NAMES = 16,
    NAME_BYTES = 80,        /* 15 bytes of a command name, each at most an octal escape */
    SPAWN_TEXT_BYTES = 1024,
    IO_COUNTERS = 7,
    SERIES_POINTS = 64,
    MAX_WAITING = 512,
    HARDWARE_COUNTERS = 2
};

/* One program to run, and as whom. */
struct job {
    char **argv; /* looked up in PATH */
    const char *cwd;
    int64_t limit_ms;
    int stdout_fd, stderr_fd, report_fd;
    bool switch_user; /* isolation `uid`; else the program runs as whoever the helper is */
    uid_t uid;
    gid_t gid;
    rlim_t fsize_bytes;
    const char *cgroup; /* to be entered; empty for none */
    bool series, counters; /* what is measured only when it is asked for */
    bool basic;            /* processes started and waiting are left out */
    int64_t ready_cpu_ns;  /* what this process had taken before it got the job */
};

/* I/O of all reaped children in the order of IO_NAMES; `known` is false where the kernel does not say. */
struct io {
    bool known;
    uint64_t counters[IO_COUNTERS];
};
extern const char *const IO_NAMES[IO_COUNTERS];

/* How long processes that were seen waited for a processor so far (`run_delay` of /proc/PID/schedstat). */
struct waiting {
    struct {
        pid_t pid;
        uint64_t ns;
        bool alive;
    } seen[MAX_WAITING];
    int count;
    uint64_t gone_ns; /* of those that are no more */
    bool unknown;     /* the kernel does not say */
};

/* Memory of the whole tree over time, in KiB; of the series, each point is the most within `stride` samples. */
struct memory {
    uint64_t peak_kib, last_kib, area_kib_us;
    int samples;
    int64_t last_ns;
    int points, stride, within;
    struct {
        int64_t ns;
        uint64_t kib;
    } series[SERIES_POINTS];
};

/* Hardware counters of the call, open from before its fork; `reason` says why there are none. */
struct hardware {
    int fds[HARDWARE_COUNTERS];
    char reason[120];
};

/* Processes of the call that are alive. */
struct census {
    bool known; /* /proc could be read */
    int count;
    uint64_t rss_kib;
    struct waiting *waiting; /* is told of each; may be NULL */
    int named;
    char names[MAX_NAMES][NAME_BYTES]; /* the first ones in the order of the bytes */
};

/* How the call went. */
struct outcome {
    bool ended, timed_out, aborted, survivors;
    int status; /* wait status of the main process once `ended` */
    int64_t start_ns, end_ns, done_ns;
    struct census leftovers;
    struct memory memory;
    struct waiting waiting;
    int most_processes;
    int64_t pid_before, pid_last; /* numbers given out last in this PID namespace; a `pid_last` of -1 is unknown */
};

/* job.c: wait for the job that comes through a descriptor; its environment becomes this process's, and so the program's. */
void take_job(struct job *job, const char *descriptor);
_Noreturn void refuse(const struct job *job, const char *what, const char *text);

/* child.c: turn a fresh fork into the program; writes `floor KIB` and, if it fails, `error TEXT` to status_fd. */
_Noreturn void become(const struct job *job, int status_fd);

/* supervise.c: wait for main_pid, kill whatever is left of the call, reap all of it. */
void supervise(const struct job *job, pid_t main_pid, struct outcome *outcome);
int64_t now_ns(void);
void note_pids(struct outcome *outcome);

/* processes.c */
void take_census(const struct job *job, pid_t except, struct census *census);
void kill_all(const struct job *job, pid_t main_pid);

/* counters.c */
void read_io(struct io *io);
int64_t last_pid(void);
void note_waiting(struct waiting *waiting, pid_t pid, bool ends);
void settle_waiting(struct waiting *waiting);
void note_memory(struct memory *memory, int64_t start_ns, int64_t now_ns, uint64_t kib, bool series);
void open_hardware(struct hardware *hardware);
/* The counts by the order of HARDWARE_NAMES; false and a reason where one is not known. */
bool read_hardware(struct hardware *hardware, uint64_t *counts);
extern const char *const HARDWARE_NAMES[HARDWARE_COUNTERS];

/* report.c */
void report(const struct job *job, const struct outcome *outcome, const struct io *before, const struct io *after,
            struct hardware *hardware, const char *floor_kib);
/* Report `{"KEY": "TEXT"}`, also on standard error, and end the process with status 1. */
_Noreturn void give_up(int report_fd, const char *key, const char *format, ...) __attribute__((format(printf, 3, 4)));

#endif
