/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pool_fork.pml: threads of a fork's child that find out at once what is left of a pool
 * (src/memory/pool_fork.c), for the model checker Spin. Run by check_models.py.
 *
 * The locks are in any state that the parent's threads can have left. Spin shows: all threads come to the
 * same verdict; a pool whose lock was held, or in which a reclaimer ran, is entered by nobody; any
 * other by one at a time; nobody waits for ever. Defining one of these breaks it:
 *   NO_CLAIM            everybody decides, and makes `slow` free, for himself
 *   LOCK_ONLY           `slow` stays as it was
 */
#ifndef THREADS
#define THREADS 3
#endif
bit lock, slow, reclaiming; /* 1: taken */
bit torn;                   /* by a thread that is not there */
bit claimed, lost;      /* 1: by this process */
byte home = 2;          /* 0: the parent, 1: this process, 2: the fork is yet to come */
byte inside;

active [THREADS] proctype thread() {
    bit mine, verdict;
    (home != 2); /* all begin after init */
    if
    :: home == 1 -> verdict = 1
    :: else ->
#ifdef NO_CLAIM
       mine = 1;
#else
       atomic { if :: claimed == 0 -> claimed = 1; mine = 1 :: else fi };
#endif
       if
       :: mine ->
          if
          :: lock == 1 || reclaiming == 1 -> lost = 1
          :: else ->
#ifndef LOCK_ONLY
             slow = 0;
#endif
             home = 1;
             verdict = 1
          fi
       :: else ->
          if
          :: home == 1 -> verdict = 1
          :: home == 0 && lost == 1
          fi
       fi
    fi;
    assert(verdict == !torn);
    if
    :: verdict ->
       atomic { slow == 0 -> slow = 1 };
       inside++;
       assert(inside == 1);
       atomic { lock == 0 -> lock = 1 };
       lock = 0;
       inside--;
       slow = 0
    :: else
    fi
}

init {
    atomic {
        if :: slow = 1 :: skip fi;
        if :: lock = 1; torn = 1 :: skip fi;
        if :: slow == 1 -> reclaiming = 1; torn = 1 :: skip fi;
        home = 0
    }
}
