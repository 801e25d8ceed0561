/* The life of a call: its limit, its end, and the end of everything it left behind. */

#include "call_helper.h"

#include <errno.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>

#define MS_NS INT64_C(1000000)
#define S_NS INT64_C(1000000000)

static const int64_t GRACE_NS = 500 * MS_NS;
static const int64_t PATIENCE_NS = 4 * S_NS; /* less than the client waits past limit and grace */
static const int64_t RETRY_NS = MS_NS / 2;
static const int64_t SAMPLE_NS = 20 * MS_NS;
static const int64_t SAMPLE_SHARE = 20; /* sampling takes at most one part in this many of the time */

int64_t now_ns(void)
{
    struct timespec time;
    (void)clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * S_NS + time.tv_nsec;
}

/*
 * Collect every child that has ended, without waiting; returns whether children are left. Until it is collected the
 * kernel still says how long it waited for a processor.
 */
static bool reap(pid_t main_pid, struct outcome *outcome)
{
    for (;;) {
        int status;
        siginfo_t ended = {0};
        if (waitid(P_ALL, 0, &ended, WEXITED | WNOHANG | WNOWAIT) != 0 && errno != EINTR)
            return false;
        if (ended.si_pid == 0)
            return true;
        note_waiting(&outcome->waiting, ended.si_pid, true);
        pid_t pid = waitpid(ended.si_pid, &status, WNOHANG);
        if (pid == main_pid) {
            outcome->end_ns = now_ns();
            outcome->ended = true;
            outcome->status = status;
        }
    }
}

static int next_signal(int64_t timeout_ns)
{
    sigset_t awaited;
    sigemptyset(&awaited);
    sigaddset(&awaited, SIGCHLD);
    sigaddset(&awaited, SIGTERM);
    struct timespec timeout = {.tv_sec = (time_t)(timeout_ns / S_NS), .tv_nsec = (long)(timeout_ns % S_NS)};
    return sigtimedwait(&awaited, NULL, &timeout);
}

/* The numbers go up until they begin anew, and how many there were is then unknown, also when they are beyond the first. */
void note_pids(struct outcome *outcome)
{
    int64_t last = outcome->pid_last < 0 ? -1 : last_pid();
    outcome->pid_last = last < outcome->pid_last ? -1 : last;
}

/* Memory of the whole tree, now and then; returns when to look again. */
static int64_t sample(const struct job *job, struct outcome *outcome)
{
    struct census census = {.waiting = &outcome->waiting};
    int64_t start_ns = now_ns();
    note_pids(outcome);
    take_census(job, 0, &census);
    settle_waiting(&outcome->waiting);
    int64_t end_ns = now_ns(), rest_ns = SAMPLE_SHARE * (end_ns - start_ns);
    if (census.known && census.count > 0) {
        note_memory(&outcome->memory, outcome->start_ns, start_ns, census.rss_kib, job->series);
        if (census.count > outcome->most_processes)
            outcome->most_processes = census.count;
    }
    return end_ns + (rest_ns > SAMPLE_NS ? rest_ns : SAMPLE_NS);
}

/*
 * Wait for the main process to end, at most until `until_ns`; false when the runner asked to stop (`heed_abort`).
 * SIGCHLD, unlike a descriptor of the process, also tells of orphans, which must go before they use up the pid limit.
 */
static bool await(const struct job *job, pid_t main_pid, struct outcome *outcome, int64_t until_ns, bool heed_abort)
{
    int64_t sample_ns = now_ns() + SAMPLE_NS;
    for (;;) {
        (void)reap(main_pid, outcome);
        int64_t now = now_ns();
        if (outcome->ended || now >= until_ns)
            return true;
        if (now >= sample_ns) {
            sample_ns = sample(job, outcome);
            continue;
        }
        if (next_signal((until_ns < sample_ns ? until_ns : sample_ns) - now) == SIGTERM && heed_abort)
            return false;
    }
}

/* The limit, a polite end, a grace period. Afterwards the main process may still be alive. */
static void run_to_end(const struct job *job, pid_t main_pid, struct outcome *outcome)
{
    if (!await(job, main_pid, outcome, outcome->start_ns + job->limit_ms * MS_NS, true)) {
        outcome->aborted = true;
        return;
    }
    if (outcome->ended)
        return;
    outcome->timed_out = true;
    if (kill(-main_pid, SIGTERM) != 0)
        (void)kill(main_pid, SIGTERM); /* it has no group of its own yet */
    outcome->aborted = !await(job, main_pid, outcome, now_ns() + GRACE_NS, true);
}

void supervise(const struct job *job, pid_t main_pid, struct outcome *outcome)
{
    outcome->leftovers = (struct census){.known = true};
    run_to_end(job, main_pid, outcome);
    int64_t deadline_ns = now_ns() + PATIENCE_NS;
    bool left = reap(main_pid, outcome);
    if (left)
        take_census(job, main_pid, &outcome->leftovers);
    /* Once at least, also with no child left: nothing of the tool's user may live on. */
    for (;;) {
        kill_all(job, outcome->ended ? 0 : main_pid);
        left = reap(main_pid, outcome);
        if (!left || now_ns() >= deadline_ns)
            break;
        (void)next_signal(RETRY_NS);
    }
    outcome->survivors = left;
    outcome->done_ns = now_ns();
}
