/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pool_lock.pml: the locks of a shared pool, for the model checker Spin. Run by check_models.py.
 *
 * The mutex (tn_mutex of src/core/os.h) step by step: taking it is one atomic step, giving it back
 * is a look and then a store, waiting is a mark, a look by the kernel and a sleep; a thread that is
 * alone takes it with a look and a store too, and may start the others at any moment. On it two locks,
 * `lock` around the bookkeeping and `slow` around the ladder; users who are inside of their context
 * while they allocate, grow the pool by asking the system without holding `lock`, and as reclaimers
 * enter other contexts if nobody is inside; and somebody who trims. A block is a whole segment.
 *
 * Spin tries every order of steps and shows: nobody shares a critical section, the budget is never
 * exceeded by what is really held of the system, nobody is refused while there is a free block or
 * room to grow, a reclaimer is never called after its removal returned, nobody waits for ever.
 *
 * Defining one of these breaks it, and Spin has to find that:
 *   SLEEP_FOR_EVER      a sleeper does not look again by itself (the unlock's look and store are not atomic)
 *   WAIT_IN_RECLAIMER   a reclaimer waits for a context instead of trying
 *   GROW_WITHOUT_SLOW   the budget is compared without `slow`
 *   COUNT_TOO_EARLY     trimming subtracts from `reserved` before the memory is gone
 *   TORN_LOCK           taking the mutex is a look and then a store
 *   ALONE_TOO_LONG      others run before the first thread knows that it is not alone any more
 */
#ifndef USERS
#define USERS 2
#endif
#ifndef BUDGET
#define BUDGET 1
#endif
#define LOCK 0
#define SLOW 1

/* ---- the mutex ---- */

mtype = { unlocked, held, crowded };
mtype word[2] = unlocked;
byte sleepers[2], woken[2]; /* of the kernel's queue: how many are in it, how many of them are let go */
byte inside[2];             /* how many think that they have the lock */

bool alone = true, begun; /* as the first thread is told; whether others run */

inline start_others() {
#ifdef ALONE_TOO_LONG
    begun = true;
    alone = false
#else
    alone = false;
    begun = true
#endif
}

/* The first thread starts the others now, or does not yet. */
inline perhaps_start() {
    if
    :: _pid == 0 && !begun -> start_others()
    :: true
    fi
}

inline take(m) {
    mark = held;
    do
    :: alone && word[m] == unlocked -> word[m] = mark; break /* two steps */
    :: atomic { word[m] == unlocked ->
#ifdef TORN_LOCK
           skip };
           word[m] = mark;
           break
#else
           word[m] = mark; break }
#endif
    :: atomic { word[m] == held -> word[m] = crowded } /* spinning has not helped */
    :: atomic { word[m] == crowded -> sleepers[m]++ }; /* the kernel compares and queues in one step */
       if
       :: atomic { woken[m] > 0 -> woken[m]--; sleepers[m]-- }
#ifndef SLEEP_FOR_EVER
       /* A millisecond has passed. Who finds all as it was would only lie down again. */
       :: atomic { woken[m] < sleepers[m] && word[m] != crowded -> sleepers[m]-- }
#endif
       fi;
       mark = crowded
    od;
    inside[m]++;
    assert(inside[m] == 1);
    perhaps_start()
}

inline give(m) {
    inside[m]--;
    if
    :: word[m] == held -> word[m] = unlocked /* two steps */
    :: word[m] == crowded ->
       word[m] = unlocked;
       atomic {
           if
           :: sleepers[m] > woken[m] -> woken[m]++
           :: else
           fi
       }
    fi
}

/* ---- the pool ---- */

byte spare;    /* free blocks, under LOCK */
byte reserved; /* as counted, under both */
byte real;     /* what the system has really given */

mtype = { nobody, user, reclaimer };
mtype context[USERS] = nobody;
bool holds[USERS], registered[USERS];

inline reuse() {
    take(LOCK);
    if
    :: spare > 0 -> spare--; got = true
    :: else
    fi;
    give(LOCK)
}

inline grow() {
    if
    :: !got && reserved < BUDGET ->
       if
       :: real++; assert(real <= BUDGET); /* the system, slow */
          take(LOCK);
          reserved++;
          got = true;
          give(LOCK)
       :: refused = true /* by the system */
       fi
    :: else
    fi
}

/* One holder: enters its context if nobody is inside, and takes its block. */
inline reclaim_from(q) {
    if
    :: !got && q != _pid && registered[q] ->
       entered = false;
       atomic {
           if
           :: context[q] == nobody -> context[q] = reclaimer; entered = true
#ifdef WAIT_IN_RECLAIMER
           :: context[q] != nobody -> (context[q] == nobody); context[q] = reclaimer; entered = true
#else
           :: else
#endif
           fi
       };
       if
       :: entered ->
          assert(registered[q]);
          if
          :: holds[q] ->
             take(LOCK);
             spare++;
             give(LOCK);
             holds[q] = false
          :: else
          fi;
          context[q] = nobody;
          reuse();
          grow()
       :: else
       fi
    :: else
    fi
}

inline allocate() {
    got = false;
    refused = false;
    reuse();
    if
    :: !got ->
#ifndef GROW_WITHOUT_SLOW
       take(SLOW);
#endif
       reuse();
       grow();
       q = 0;
       do
       :: q < USERS -> reclaim_from(q); q++
       :: else -> break
       od;
       /* Told "no": every block was out of reach at the last look. */
       assert(got || refused || reserved == BUDGET);
#ifndef GROW_WITHOUT_SLOW
       give(SLOW)
#endif
    :: else
    fi
}

active [USERS] proctype someone() {
    mtype mark;
    bool got, refused, entered;
    byte q, round;

    if
    :: _pid == 0 -> perhaps_start()
    :: else -> (begun)
    fi;
    take(SLOW);
    registered[_pid] = true;
    give(SLOW);
    do
    :: round < 1 ->
       round++;
       atomic { context[_pid] == nobody -> context[_pid] = user };
       if
       :: !holds[_pid] -> allocate(); holds[_pid] = got
       :: else
       fi;
       context[_pid] = nobody
    :: else -> break
    od;
    /* The end of the context: nobody asks it any more, then its block goes. */
    take(SLOW);
    registered[_pid] = false;
    give(SLOW);
    assert(context[_pid] != reclaimer);
    if
    :: holds[_pid] ->
       take(LOCK);
       spare++;
       give(LOCK);
       holds[_pid] = false
    :: else
    fi;
    if
    :: !begun -> start_others()
    :: else
    fi
}

#ifdef TRIM
active proctype trimmer() {
    mtype mark;
    bool going;
    (begun);
    take(SLOW);
    take(LOCK);
    if
    :: spare > 0 -> spare--; going = true
#ifdef COUNT_TOO_EARLY
       ; reserved--
#endif
    :: else
    fi;
    give(LOCK);
#ifdef COUNT_TOO_EARLY
    give(SLOW);
#endif
    if
    :: going ->
       real--; /* the system, slow */
#ifndef COUNT_TOO_EARLY
       take(LOCK);
       reserved--;
       give(LOCK)
#endif
    :: else
    fi;
#ifndef COUNT_TOO_EARLY
    give(SLOW)
#endif
}
#endif
