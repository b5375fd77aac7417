// Package stage is the launcher's second self: the process between the launcher and the code. It takes away what the
// code must not have, measures that it is gone, reports it to the launcher, and becomes the code.
package stage

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"crucible.dev/launcher/internal/seccomp"
	"crucible.dev/launcher/internal/settings"
)

const (
	// Command is the launcher's hidden command for this process.
	Command = "exec"
	// ReportFD is where the stage reports. It closes when the code starts, which tells the launcher that it did.
	ReportFD = 3
)

// Exit codes of the launcher itself, as env and timeout use them.
const (
	ExitTimedOut      = 124
	ExitRefused       = 125
	ExitNotExecutable = 126
	ExitNotFound      = 127
)

// Message is one line of the report.
type Message struct {
	Receipt *Receipt `json:"receipt,omitempty"`
	Error   string   `json:"error,omitempty"`
	Exit    int      `json:"exit,omitempty"`
}

// failure is an error with the exit code that goes with it.
type failure struct {
	code int
	err  error
}

func (f *failure) Error() string { return f.err.Error() }

// Run becomes the code that the settings file describes. It returns only if that fails. The API server's address and
// port are for the receipt; they may be empty.
func Run(path, apiServer string) int {
	unix.CloseOnExec(ReportFD)
	err := become(path, apiServer)
	code := ExitRefused
	var failed *failure
	if errors.As(err, &failed) {
		code = failed.code
	}
	send(Message{Error: err.Error(), Exit: code})
	return code
}

func become(path, apiServer string) error {
	config, err := settings.Read(path)
	if err != nil {
		return err
	}
	environment := config.Environment()
	if err := unix.Chdir(config.Cwd); err != nil {
		return fmt.Errorf("cwd %s: %w", config.Cwd, err)
	}
	if err := closeInherited(); err != nil {
		return fmt.Errorf("inherited descriptors: %w", err)
	}
	preferAsVictim()
	if err := limit(config.Limits); err != nil {
		return err
	}
	connections := connect(apiServer)
	first := firstOfCode()
	if err := seccomp.Install(first); err != nil {
		return err
	}
	receipt := Measure(connections, first)
	if err := receipt.holds(); err != nil {
		return err
	}
	if err := send(Message{Receipt: receipt}); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	if err := awaitRelease(); err != nil {
		return err
	}
	return execute(config.Command, environment)
}

// firstOfCode is the lowest process id that belongs to the code, if the launcher is process 1: what comes before this
// process is the launcher's own. Ids that are used again after all have been are above 300.
func firstOfCode() uint32 {
	if unix.Getppid() != 1 {
		return 0
	}
	return uint32(unix.Getpid())
}

func send(message Message) error {
	line, err := json.Marshal(message)
	if err != nil {
		return err
	}
	_, err = unix.Write(ReportFD, append(line, '\n'))
	return err
}

// awaitRelease waits until the launcher is ready for anything the code may do.
func awaitRelease() error {
	var answer [1]byte
	for {
		n, err := unix.Read(ReportFD, answer[:])
		switch {
		case errors.Is(err, unix.EINTR):
		case n == 1:
			return nil
		default:
			return errors.New("the launcher is gone")
		}
	}
}

// closeInherited makes sure that the code gets no descriptor but 0, 1 and 2, whatever the launcher was started with.
func closeInherited() error {
	const cloexec = 1 << 2 // CLOSE_RANGE_CLOEXEC
	if unix.CloseRange(ReportFD, ^uint(0)>>1, cloexec) == nil {
		return nil
	}
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if fd, err := strconv.Atoi(entry.Name()); err == nil && fd >= ReportFD {
			unix.CloseOnExec(fd)
		}
	}
	return nil
}

// preferAsVictim lets the kernel end the code rather than the launcher when memory runs out, so that the launcher can
// still say what happened. Where the container is ended as one this changes nothing.
func preferAsVictim() {
	const file, more, most = "/proc/self/oom_score_adj", 100, 1000
	text, err := os.ReadFile(file)
	if err != nil {
		return
	}
	if score, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil {
		_ = os.WriteFile(file, []byte(strconv.Itoa(min(score+more, most))), 0)
	}
}

// pendingSignals is more than programs use: one for each timer and each signal that waits with a value.
const pendingSignals = 1024

// limit sets soft and hard limits. It goes through package syscall, which otherwise restores the limit of open files
// that it raised for itself when it executes something.
func limit(limits settings.Limits) error {
	for _, each := range []struct {
		name     string
		resource int
		value    uint64
		// optional where a kernel knows nothing that it would limit: gVisor refuses to set it.
		optional bool
	}{
		{"file size", unix.RLIMIT_FSIZE, limits.FileSizeBytes, false},
		{"open files", unix.RLIMIT_NOFILE, limits.OpenFiles, false},
		{"core size", unix.RLIMIT_CORE, 0, false},
		{"message queues", unix.RLIMIT_MSGQUEUE, 0, true},
		// Each POSIX timer takes one of these; without a limit of its own a run may have the node's, tens of thousands.
		{"pending signals", unix.RLIMIT_SIGPENDING, pendingSignals, true},
		{"processes", unix.RLIMIT_NPROC, limits.Processes, false},
	} {
		var current syscall.Rlimit
		if err := syscall.Getrlimit(each.resource, &current); err != nil {
			return fmt.Errorf("limit of %s: %w", each.name, err)
		}
		value := min(each.value, current.Max)
		if err := syscall.Setrlimit(each.resource, &syscall.Rlimit{Cur: value, Max: value}); err != nil && !each.optional {
			return fmt.Errorf("limit of %s: %w", each.name, err)
		}
	}
	return nil
}

// execute searches PATH as execvp does and starts the first program that can be.
func execute(command, environment []string) error {
	name := command[0]
	candidates := []string{name}
	if !strings.Contains(name, "/") {
		candidates = candidates[:0]
		for _, directory := range strings.Split(settings.Lookup(environment, "PATH"), ":") {
			if directory == "" {
				directory = "."
			}
			candidates = append(candidates, directory+"/"+name)
		}
	}
	result := &failure{ExitNotFound, fmt.Errorf("%s: not found", name)}
	for _, candidate := range candidates {
		err := syscall.Exec(candidate, command, environment)
		switch {
		case errors.Is(err, unix.ENOENT) && exists(candidate):
			return &failure{ExitNotFound, fmt.Errorf("%s: its interpreter was not found", candidate)}
		case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR):
		case errors.Is(err, unix.EACCES) && len(candidates) > 1:
			result = &failure{ExitNotExecutable, fmt.Errorf("%s: %w", candidate, err)}
		default:
			return &failure{ExitNotExecutable, fmt.Errorf("%s: %w", candidate, err)}
		}
	}
	return result
}

func exists(path string) bool {
	var stat unix.Stat_t
	return unix.Stat(path, &stat) == nil
}
