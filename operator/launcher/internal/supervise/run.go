// Package supervise runs the code: it starts it, reads what it writes, ends it in time, and reports.
//
// One goroutine does all of it in one poll loop. The launcher shares its uid, its memory limit and its process limit
// with code that may exhaust them, so it makes no thread and hardly any garbage once the code runs.
package supervise

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"time"

	"golang.org/x/sys/unix"

	"crucible.dev/launcher/internal/artifacts"
	"crucible.dev/launcher/internal/frames"
	"crucible.dev/launcher/internal/glob"
	"crucible.dev/launcher/internal/settings"
	"crucible.dev/launcher/internal/stage"
)

const (
	gcPercent    = 25
	spareThreads = 6
	// artifactSeconds bounds the walk over and the sending of artifacts.
	artifactSeconds = 20 * time.Second
	// closing is what artifacts get after the grace. The pod is given two seconds then (operator/src/evaluation/job.ts),
	// and ends at timeout + grace + 3 at the latest: the rest is for the summary.
	closing    = time.Second
	signalBase = 128
)

// Run runs the code that the settings file describes and returns the launcher's exit code.
func Run(path string) int {
	runtime.GOMAXPROCS(1)
	debug.SetGCPercent(gcPercent)
	// Whatever fails from here on is told in a summary, which needs an emitter even without settings.
	emitter := frames.NewEmitter(settings.MinEmittedBytes)
	report := &frames.Report{Reason: frames.StartFailed}
	s := &supervisor{emitter: emitter, report: report, exit: stage.ExitRefused, outcome: unix.WaitStatus(0)}
	if err := s.prepare(path); err != nil {
		s.fail(err.Error(), stage.ExitRefused)
	} else {
		s.supervise(path)
	}
	s.finish()
	return s.exit
}

// prepare reads the settings and makes the launcher ready: nothing of the code runs yet.
func (s *supervisor) prepare(path string) error {
	// The code has the same uid. Without this it could trace the launcher or open its descriptors under /proc.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("cannot be made undumpable: %w", err)
	}
	config, err := settings.Read(path)
	if err != nil {
		return err
	}
	s.config = config
	*s.emitter = *frames.NewEmitter(config.MaxEmittedBytes)
	if s.tree, err = newTree(); err != nil {
		return err
	}
	if s.wake, err = watchSignals(); err != nil {
		return err
	}
	// Opened now: by the time of the artifacts the code may have put anything in its place.
	s.directory, err = unix.Open(config.Cwd, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("cwd %s: %w", config.Cwd, err)
	}
	for _, pattern := range s.declared() {
		compiled, err := glob.Compile(pattern)
		if err != nil {
			return err
		}
		s.patterns = append(s.patterns, compiled)
	}
	s.emitter.Pending = make([]byte, 0, 2*enoughPending)
	s.share()
	return nil
}

func (s *supervisor) declared() []string {
	if s.config.Artifacts == nil {
		return nil
	}
	return s.config.Artifacts.Paths
}

// share divides the budget. Artifacts keep what they may need, up to half of it, and neither stream may take more than
// three quarters of the rest, so that a flood on one does not silence the other.
func (s *supervisor) share() {
	keep := int64(frames.SummaryRoom)
	if len(s.patterns) > 0 {
		wanted := s.config.Artifacts.MaxBytes/2*3 + 16<<10
		keep += artifacts.EndRoom + min(wanted, s.config.MaxEmittedBytes/2)
	}
	alone := (s.config.MaxEmittedBytes - keep) / 4 * 3
	s.outputs = [2]*output{
		{stream: frames.NewStream(s.emitter, frames.Stdout, s.config.MaxStreamBytes, alone, keep), fd: -1},
		{stream: frames.NewStream(s.emitter, frames.Stderr, s.config.MaxStreamBytes, alone, keep), fd: -1},
	}
	s.buffer = make([]byte, drainBytes)
}

func (s *supervisor) fail(message string, exit int) {
	s.report.Reason, s.report.Error, s.exit = frames.StartFailed, message, exit
	s.phase = ended
}

// supervise starts the code and runs the loop until no process of it is left.
func (s *supervisor) supervise(path string) {
	spare(spareThreads) // first: the code's filter protects the threads that are older than the code
	if err := s.start(path); err != nil {
		s.fail(err.Error(), stage.ExitRefused)
		return
	}
	s.status.release()
	for s.phase != ended {
		s.step(s.deadline())
	}
	for _, output := range s.outputs {
		output.stream.Flush()
		output.close()
	}
	s.judge()
	s.report.DiskFull = isFull(s.directory)
	s.collect()
}

// isFull says that not even a block is left. Where the size cannot be told, as of a disk that all share, it is not.
func isFull(directory int) bool {
	var stat unix.Statfs_t
	if directory < 0 || unix.Fstatfs(directory, &stat) != nil {
		return false
	}
	return stat.Type == unix.TMPFS_MAGIC && stat.Blocks > 0 && stat.Bavail == 0
}

// judge turns the outcome of the main process into the report and the exit code.
func (s *supervisor) judge() {
	report := s.report
	if report.Error != "" {
		return
	}
	switch {
	case s.outcome.Signaled():
		name := unix.SignalName(s.outcome.Signal())
		if name == "" {
			name = fmt.Sprintf("SIG%d", s.outcome.Signal())
		}
		report.Signal, report.Reason = &name, frames.Signalled
		s.exit = signalBase + int(s.outcome.Signal())
	case s.reaped:
		code := s.outcome.ExitStatus()
		report.ExitCode, report.Reason = &code, frames.Exited
		s.exit = code
	default:
		s.report.Error = "the process could not be ended"
		s.exit = signalBase + int(unix.SIGKILL)
	}
	if s.terminated {
		report.Reason = frames.Terminated
	}
	if s.timedOut {
		report.Reason, report.TimedOut = frames.TimedOut, true
		s.exit = stage.ExitTimedOut
	}
}

// collect sends the artifacts.
func (s *supervisor) collect() {
	s.report.Artifacts.Complete = true
	if len(s.patterns) == 0 {
		return
	}
	limit := earlier(time.Now().Add(artifactSeconds), s.started.Add(seconds(s.config.TimeoutSeconds+s.config.GraceSeconds)+closing))
	collector := &artifacts.Collector{
		Emitter: s.emitter, Patterns: s.patterns,
		MaxBytes: s.config.Artifacts.MaxBytes, MaxFiles: s.config.Artifacts.MaxFiles,
		Flush: s.flush,
		Expired: func() bool {
			// Whoever asks the launcher to end will not wait longer than that.
			if asked := terminationAsked.Load(); asked != 0 {
				limit = earlier(limit, time.Unix(0, asked).Add(seconds(s.config.GraceSeconds)+closing))
			}
			return time.Now().After(limit)
		},
	}
	s.report.Artifacts = collector.Run(s.directory)
}

// finish writes the summary, the last frame.
func (s *supervisor) finish() {
	report := s.report
	for i, stats := range []*frames.StreamStats{&report.Stdout, &report.Stderr} {
		if s.outputs[i] != nil {
			*stats = s.outputs[i].stream.Stats
		}
	}
	if !s.started.IsZero() && !s.exited.IsZero() {
		report.WallSeconds = s.exited.Sub(s.started).Seconds()
	}
	var usage unix.Rusage
	if unix.Getrusage(unix.RUSAGE_CHILDREN, &usage) == nil {
		report.CPUUserSeconds = float64(usage.Utime.Nano()) / 1e9
		report.CPUSystemSeconds = float64(usage.Stime.Nano()) / 1e9
		report.MaxRSSBytes = int64(usage.Maxrss) << 10
	}
	if !frames.EmitReport(s.emitter, report) {
		os.Stderr.WriteString("launcher: the summary could not be written\n")
	}
	s.flush()
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func seconds(value float64) time.Duration { return time.Duration(value * float64(time.Second)) }

// spare makes threads now and leaves them idle. Once the code has used up the process limit the runtime could not make
// one, and would abort.
func spare(count int) {
	ready, release := make(chan struct{}), make(chan struct{})
	for range count {
		go func() {
			runtime.LockOSThread() // a goroutine that waits while locked keeps a thread to itself
			ready <- struct{}{}
			<-release
			runtime.UnlockOSThread()
			ready <- struct{}{}
		}()
	}
	for range count {
		<-ready
	}
	close(release)
	for range count { // a thread is of use only once its goroutine has let go of it
		<-ready
	}
}
