package supervise

import (
	"fmt"
	"os"
	"os/signal"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// terminationAsked is when somebody first asked the launcher to end, in nanoseconds since 1970; 0 until then.
var terminationAsked atomic.Int64

// watchSignals makes signals readable from a descriptor. The code may send any signal to its parent: those that would
// end a Go program are caught and ignored.
func watchSignals() (int, error) {
	var ends [2]int
	if err := unix.Pipe2(ends[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return 0, fmt.Errorf("pipe: %w", err)
	}
	terminate, children, ignored := make(chan os.Signal, 1), make(chan os.Signal, 1), make(chan os.Signal, 1)
	signal.Notify(terminate, unix.SIGTERM, unix.SIGINT)
	signal.Notify(children, unix.SIGCHLD)
	// A channel that nobody reads: what does not fit is dropped, which is the point.
	signal.Notify(ignored, unix.SIGHUP, unix.SIGQUIT, unix.SIGILL, unix.SIGTRAP, unix.SIGABRT, unix.SIGBUS, unix.SIGFPE,
		unix.SIGUSR1, unix.SIGUSR2, unix.SIGSEGV, unix.SIGPIPE, unix.SIGALRM, unix.SIGSTKFLT, unix.SIGXCPU, unix.SIGXFSZ,
		unix.SIGVTALRM, unix.SIGIO, unix.SIGPWR, unix.SIGSYS, unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU)
	go func() {
		for {
			select {
			case <-terminate:
				terminationAsked.CompareAndSwap(0, time.Now().UnixNano())
			case <-children:
			}
			_, _ = unix.Write(ends[1], []byte{0}) // full: the loop will look anyway
		}
	}()
	return ends[0], nil
}

// signals empties the descriptor and looks at what may have happened.
func (s *supervisor) signals() {
	var data [64]byte
	for {
		if n, err := unix.Read(s.wake, data[:]); err != nil || n < len(data) {
			break
		}
	}
	if s.phase > starting && s.phase < ended {
		s.reap()
	}
}
