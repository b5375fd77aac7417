package supervise

import (
	"bytes"
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"crucible.dev/launcher/internal/frames"
	"crucible.dev/launcher/internal/glob"
	"crucible.dev/launcher/internal/settings"
)

const (
	// readBytes at once from the program: each could become a frame of a dozen bytes.
	readBytes = 8 << 10
	// drainBytes at once when nothing of it is emitted any more.
	drainBytes = 64 << 10
	// enoughPending: nothing more is read from the program until this is written.
	enoughPending = 32 << 10
	// pipeAtomic bytes can be written to a pipe that polls as writable without ever blocking (PIPE_BUF).
	pipeAtomic = 4096
	// startLimit bounds the time between the fork and the code's first instruction; all of it is the launcher's own.
	startLimit = 30 * time.Second
	// drainTime is what background processes get to write after the main process has ended.
	drainTime = 500 * time.Millisecond
	// killAgain repeats the kill; killLimit gives up on processes that even SIGKILL does not end.
	killAgain = 50 * time.Millisecond
	killLimit = 5 * time.Second
	// countEvery: what the code's processes are counted at, and once more when the main one has ended.
	countEvery = 250 * time.Millisecond
	// idleFlush is how long the beginning of a line is held back for its end: a prompt shows, and is not lost if the
	// whole container is killed.
	idleFlush = time.Second
)

type phase int

const (
	starting phase = iota // the stage has not become the code yet
	running
	stopping // SIGTERM was sent, SIGKILL follows at until
	draining // the main process has ended, what it left behind is killed at until
	killing  // SIGKILL was sent, given up at until
	ended
)

type output struct {
	stream *frames.Stream
	fd     int // -1 when closed
	since  time.Time
}

func (o *output) close() {
	if o.fd >= 0 {
		unix.Close(o.fd)
		o.fd = -1
	}
}

type supervisor struct {
	config    *settings.Settings
	patterns  []*glob.Pattern
	directory int
	emitter   *frames.Emitter
	report    *frames.Report
	tree      tree
	wake      int
	exit      int

	outputs [2]*output
	status  statusReader
	buffer  []byte
	written int // of emitter.Pending

	phase      phase
	until      time.Time
	count      time.Time // when to count the code's processes next
	giveUp     time.Time
	started    time.Time
	exited     time.Time
	main       int
	reaped     bool // the main process was waited for
	childless  bool
	outcome    unix.WaitStatus
	timedOut   bool
	terminated bool
}

// deadline is when the loop has to look even if nothing happens.
func (s *supervisor) deadline() time.Time {
	next := s.until
	if s.phase == running && s.count.Before(next) {
		next = s.count
	}
	for _, output := range s.outputs {
		if output.stream.Waiting() {
			if flush := output.since.Add(idleFlush); next.IsZero() || flush.Before(next) {
				next = flush
			}
		}
	}
	return next
}

// step waits for something to happen, at most until the deadline, and handles it.
func (s *supervisor) step(deadline time.Time) {
	var set [5]unix.PollFd
	fds := set[:0]
	add := func(fd int, events int16) int {
		fds = append(fds, unix.PollFd{Fd: int32(fd), Events: events})
		return len(fds) - 1
	}
	add(s.wake, unix.POLLIN)
	sink, status, reads := -1, -1, [2]int{-1, -1}
	if s.written < len(s.emitter.Pending) {
		sink = add(unix.Stdout, unix.POLLOUT)
	}
	if s.phase == starting {
		status = add(s.status.fd, unix.POLLIN)
	} else if len(s.emitter.Pending)-s.written < enoughPending {
		for i, output := range s.outputs {
			if output != nil && output.fd >= 0 {
				reads[i] = add(output.fd, unix.POLLIN)
			}
		}
	}
	if n, err := unix.Poll(fds, wait(deadline)); err != nil || n == 0 {
		for i := range fds {
			fds[i].Revents = 0
		}
	}
	if fds[0].Revents != 0 {
		s.signals()
	}
	if sink >= 0 && fds[sink].Revents != 0 {
		s.write()
	}
	if status >= 0 && fds[status].Revents != 0 {
		s.readStatus()
	}
	for i, at := range reads {
		if at >= 0 && fds[at].Revents != 0 {
			s.read(s.outputs[i])
		}
	}
	if s.phase != ended {
		s.advance(time.Now())
	}
}

// wait is a timeout for poll, rounded up so that the deadline has passed when it ends.
func wait(deadline time.Time) int {
	const longest = time.Hour
	if deadline.IsZero() {
		return -1
	}
	left := min(max(time.Until(deadline), 0), longest)
	return int((left + time.Millisecond - 1) / time.Millisecond)
}

// flush writes everything that is pending.
func (s *supervisor) flush() {
	for s.written < len(s.emitter.Pending) {
		if s.wake == 0 { // nothing was prepared
			s.write()
			continue
		}
		s.step(time.Time{})
	}
}

// write writes one piece of what is pending. After poll this cannot block, so that a reader that has stopped reading
// never keeps the launcher from ending the code in time.
func (s *supervisor) write() {
	pending := s.emitter.Pending[s.written:]
	n, err := unix.Write(unix.Stdout, pending[:min(len(pending), pipeAtomic)])
	switch {
	case errors.Is(err, unix.EINTR), errors.Is(err, unix.EAGAIN):
		return
	case err != nil: // nobody reads any more; the code still runs to its end
		n = len(pending)
	}
	if s.written += n; s.written*2 >= len(s.emitter.Pending) { // what is written goes, so that the buffer stays small
		rest := copy(s.emitter.Pending, s.emitter.Pending[s.written:])
		s.emitter.Pending, s.written = s.emitter.Pending[:rest], 0
	}
}

func (s *supervisor) read(output *output) {
	size := readBytes
	if output.stream.Stats.Truncated {
		size = drainBytes
	}
	n, err := unix.Read(output.fd, s.buffer[:size])
	switch {
	case errors.Is(err, unix.EINTR), errors.Is(err, unix.EAGAIN):
	case err != nil || n == 0:
		output.stream.Flush()
		output.close()
	default:
		if data := s.buffer[:n]; !output.stream.Waiting() || bytes.IndexByte(data, '\n') >= 0 {
			output.since = time.Now() // the line that is held back from here on begins in this piece
		}
		output.stream.Write(s.buffer[:n])
	}
}

// advance moves to the next phase when its time has come.
func (s *supervisor) advance(now time.Time) {
	for _, output := range s.outputs {
		if output.stream.Waiting() && !now.Before(output.since.Add(idleFlush)) {
			output.stream.Flush()
			output.since = now
		}
	}
	if s.phase == starting {
		if !now.Before(s.until) {
			s.refuseStart("did not start in time")
		}
		return
	}
	if terminationAsked.Load() != 0 && s.phase == running {
		s.terminated = true
		s.stop(now)
	}
	if s.phase == running && (s.reaped || !now.Before(s.count)) {
		s.countTasks(now)
	}
	due := !now.Before(s.until)
	switch {
	case s.phase == running && s.reaped:
		s.phase, s.until = draining, now.Add(drainTime)
	case s.phase == running && due:
		s.timedOut = true
		s.stop(now)
	case (s.phase == stopping || s.phase == draining) && due:
		s.kill(now)
	case s.phase == killing && due:
		s.tree.signal(unix.SIGKILL)
		s.reap()
		s.until = now.Add(killAgain)
	}
	s.conclude(now)
}

// countTasks notes that the code is at its limit of processes. The kernel keeps the limit and tells nobody.
func (s *supervisor) countTasks(now time.Time) {
	s.count = now.Add(countEvery)
	// At the limit some are always about to go and the next about to come; kernels also count what is not seen any more.
	limit := s.config.Limits.Processes
	if !s.report.PidsLimitHit && uint64(s.tree.tasks()) >= limit-limit/8 {
		s.report.PidsLimitHit = true
	}
}

// conclude ends the loop when nothing is left, and does not wait for more than that.
func (s *supervisor) conclude(now time.Time) {
	closed := s.outputs[0].fd < 0 && s.outputs[1].fd < 0
	switch {
	case s.reaped && s.childless:
		// Nobody is left to write; what the pipes still hold is theirs.
		if !closed {
			s.readRest()
		}
		s.phase = ended
	case s.phase == draining && closed:
		s.kill(now) // what is left has closed its outputs and is nobody's business
	case s.phase == killing && now.After(s.giveUp):
		s.readRest()
		s.phase = ended
	}
}

// readRest reads what is in the pipes now. Each holds at most its capacity, so this ends.
func (s *supervisor) readRest() {
	for _, output := range s.outputs {
		for rounds := 0; output.fd >= 0 && rounds < 1024; rounds++ {
			before := output.stream.Stats.Bytes
			s.read(output)
			if output.stream.Stats.Bytes == before {
				break
			}
		}
	}
}

// stop asks the whole tree to end and gives it the grace.
func (s *supervisor) stop(now time.Time) {
	s.phase, s.until = stopping, now.Add(seconds(s.config.GraceSeconds))
	s.tree.signal(unix.SIGTERM)
	s.tree.signal(unix.SIGCONT) // a stopped process would not get it
}

func (s *supervisor) kill(now time.Time) {
	s.phase, s.until, s.giveUp = killing, now.Add(killAgain), now.Add(killLimit)
	s.tree.signal(unix.SIGKILL)
	s.reap()
}

// reap waits for every process that has ended, the main one and what was left to the launcher.
func (s *supervisor) reap() {
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, unix.WNOHANG, nil)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.ECHILD):
			s.childless = true
			return
		case err != nil || pid <= 0:
			return
		}
		if pid == s.main {
			s.reaped, s.outcome, s.exited = true, status, time.Now()
		}
	}
}
