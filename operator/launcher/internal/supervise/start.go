package supervise

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"crucible.dev/launcher/internal/frames"
	"crucible.dev/launcher/internal/stage"
)

// maxStatus bounds what the stage may report.
const maxStatus = 32 << 10

// statusReader gathers the stage's report.
type statusReader struct {
	fd   int
	data []byte
}

// release lets the stage become the code.
func (r *statusReader) release() {
	_, _ = unix.Write(r.fd, []byte{'\n'}) // if the stage is gone, reading its report will tell
}

// start forks the stage with the code's three descriptors and the one it reports on.
func (s *supervisor) start(path string) error {
	stdin, err := openStdin(s.config.StdinPath)
	if err != nil {
		return err
	}
	var read, write [3]int
	for i := range read {
		var ends [2]int
		if i == 2 { // the stage reports and waits for an answer
			ends, err = unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		} else {
			err = unix.Pipe2(ends[:], unix.O_CLOEXEC)
		}
		if err != nil {
			return fmt.Errorf("pipe: %w", err)
		}
		read[i], write[i] = ends[0], ends[1]
		if err := unix.SetNonblock(read[i], true); err != nil {
			return fmt.Errorf("pipe: %w", err)
		}
	}
	program, err := os.Readlink("/proc/self/exe")
	if err != nil {
		program = "/proc/self/exe"
	}
	s.started = time.Now()
	s.main, err = syscall.ForkExec(program, []string{"launcher", stage.Command, path, apiServer()}, &syscall.ProcAttr{
		Env:   []string{}, // the code's is made by the stage; the Go runtime must not read it
		Files: []uintptr{uintptr(stdin), uintptr(write[0]), uintptr(write[1]), uintptr(write[2])},
		Sys:   &syscall.SysProcAttr{Setsid: true}, // a signal the code sends to its group is not for the launcher
	})
	unix.Close(stdin)
	for _, fd := range write {
		unix.Close(fd)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", program, err)
	}
	s.outputs[0].fd, s.outputs[1].fd, s.status.fd = read[0], read[1], read[2]
	s.phase, s.until = starting, s.started.Add(startLimit)
	return nil
}

// openStdin opens the code's input. Only a file: it must not be possible to wait for its end.
func openStdin(path string) (int, error) {
	if path == "" {
		path = os.DevNull
	}
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("stdin %s: %w", path, err)
	}
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return -1, fmt.Errorf("stdin %s: %w", path, err)
	}
	if kind := stat.Mode & unix.S_IFMT; kind != unix.S_IFREG && path != os.DevNull {
		return -1, fmt.Errorf("stdin %s: not a regular file", path)
	}
	return fd, unix.SetNonblock(fd, false)
}

// readStatus gathers the report. Its end means that the stage has become the code, or that it is gone.
func (s *supervisor) readStatus() {
	var data [4096]byte
	n, err := unix.Read(s.status.fd, data[:])
	if n > 0 && len(s.status.data) < maxStatus {
		s.status.data = append(s.status.data, data[:n]...)
		return
	}
	if err == unix.EINTR || err == unix.EAGAIN {
		return
	}
	unix.Close(s.status.fd)
	s.begin()
}

// begin emits the receipt and goes on to running, or to the end if the code could not be started.
func (s *supervisor) begin() {
	var receipt, failed *stage.Message
	for _, line := range bytes.Split(s.status.data, []byte{'\n'}) {
		message := &stage.Message{}
		if json.Unmarshal(line, message) != nil {
			continue
		}
		if message.Receipt != nil {
			receipt = message
		}
		if message.Error != "" {
			failed = message
		}
	}
	if receipt != nil {
		receipt.Receipt.LauncherShielded = shielded(receipt.Receipt.LauncherPID, s.main)
		s.emitReceipt(receipt.Receipt)
	}
	switch {
	case failed != nil:
		s.refuseStart(failed.Error)
		s.exit = failed.Exit
	case receipt == nil:
		s.refuseStart("ended before it could say why")
	default:
		s.phase, s.started = running, time.Now()
		s.until, s.count = s.started.Add(seconds(s.config.TimeoutSeconds)), s.started.Add(countEvery)
		s.reap() // a short program may be over already, and its SIGCHLD was not looked at while starting
	}
}

// shielded tells whether the code's filter covers every thread of the launcher: it spares ids from the code's own on.
func shielded(launcher, code int) bool {
	entries, err := os.ReadDir("/proc/self/task")
	if err != nil || launcher != 1 {
		return false
	}
	for _, entry := range entries {
		if thread, err := strconv.Atoi(entry.Name()); err != nil || thread >= code {
			return false
		}
	}
	return true
}

// apiServer is the API server's address as Kubernetes tells every container, for the receipt: the code cannot reach it.
func apiServer() string {
	host, noHost := netip.ParseAddr(os.Getenv("KUBERNETES_SERVICE_HOST"))
	port, noPort := strconv.ParseUint(os.Getenv("KUBERNETES_SERVICE_PORT"), 10, 16)
	if noHost != nil || noPort != nil {
		return ""
	}
	return netip.AddrPortFrom(host, uint16(port)).String()
}

func (s *supervisor) emitReceipt(receipt *stage.Receipt) {
	text, err := json.Marshal(receipt)
	if err == nil && len(text) > frames.MaxText { // the longest part, and the least important
		receipt.MountsOmitted, receipt.Mounts = receipt.MountsOmitted+len(receipt.Mounts), nil
		text, err = json.Marshal(receipt)
	}
	if err != nil || len(text) > frames.MaxText {
		return
	}
	s.emitter.Emit(frames.Receipt, frames.Newline, text, frames.SummaryRoom)
}

// refuseStart ends the run before it began. The stage is the only process there is.
func (s *supervisor) refuseStart(message string) {
	s.fail(strings.TrimSpace("the code was not started: "+message), stage.ExitRefused)
	_ = unix.Kill(s.main, unix.SIGKILL)
	var status unix.WaitStatus
	for {
		if _, err := unix.Wait4(s.main, &status, 0, nil); err != unix.EINTR {
			break
		}
	}
}
