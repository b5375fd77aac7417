package stage

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Receipt is what the stage measured about itself at the last moment before it became the code, with the code's own
// rights. docs/receipt.md says what each field means.
type Receipt struct {
	Version      int               `json:"version"`
	MeasuredAt   string            `json:"measuredAt"` // by the sandbox's clock, RFC 3339
	UID          int               `json:"uid"`
	GID          int               `json:"gid"`
	Groups       []int             `json:"groups"`
	Capabilities map[string]string `json:"caps"`    // hexadecimal masks; a set that could not be read is missing
	Seccomp      int               `json:"seccomp"` // 2: a filter is on
	NoNewPrivs   bool              `json:"noNewPrivs"`
	RootReadOnly bool              `json:"rootReadOnly"`
	TokenAbsent  bool              `json:"tokenAbsent"`
	// LauncherSealed tells that the launcher's descriptors cannot be opened from here.
	LauncherSealed bool `json:"launcherSealed"`
	// LauncherShielded tells that no thread of the launcher can be signalled from here. The launcher fills it in.
	LauncherShielded bool `json:"launcherShielded"`
	LauncherPID      int  `json:"launcherPid"`
	// UserNamespace tells that the ids here are not the node's own.
	UserNamespace bool   `json:"userNamespace"`
	Kernel        Kernel `json:"kernel"`
	// MessageWritable tells that the termination message file, which is on the node's disk, can be written to.
	MessageWritable bool              `json:"terminationMessageWritable"`
	Limits          map[string]uint64 `json:"limits"`
	// ProcessLimitHolds tells that a fork beyond the limit of processes was tried and refused.
	ProcessLimitHolds bool              `json:"processLimitHolds"`
	Cgroup            map[string]uint64 `json:"cgroup"` // limits of the container's control groups, as far as they are shown
	Mounts            []Mount           `json:"mounts"`
	MountsOmitted     int               `json:"mountsOmitted,omitempty"`
	writable          []Mount           // all of them
	Network           []Connection      `json:"network"`
	Denied            map[string]string `json:"denied"` // calls that were tried, and the error they got; "" if none
}

// Kernel is what uname says; under gVisor it is gVisor's.
type Kernel struct {
	System  string `json:"system"`
	Release string `json:"release"`
	Version string `json:"version"`
	Machine string `json:"machine"`
}

// Measure looks at the calling thread. connections were begun before; first is what the filter was installed with.
func Measure(connections *connections, first uint32) *Receipt {
	receipt := &Receipt{
		Version:           2,
		UID:               unix.Getuid(),
		GID:               unix.Getgid(),
		Groups:            []int{},
		Capabilities:      capabilities(),
		Seccomp:           prctl(unix.PR_GET_SECCOMP, 0, 0),
		NoNewPrivs:        prctl(unix.PR_GET_NO_NEW_PRIVS, 0, 0) == 1,
		RootReadOnly:      rootReadOnly(),
		TokenAbsent:       tokenAbsent(),
		LauncherPID:       unix.Getppid(),
		LauncherSealed:    sealed(unix.Getppid()),
		UserNamespace:     userNamespace(),
		Kernel:            kernel(),
		MessageWritable:   messageWritable(),
		Limits:            limits(),
		ProcessLimitHolds: processLimitHolds(),
		Cgroup:            cgroupLimits(),
		Denied:            denied(first),
	}
	receipt.writable, receipt.Mounts, receipt.MountsOmitted = mounts()
	if groups, err := unix.Getgroups(); err == nil {
		receipt.Groups = append(receipt.Groups, groups...)
	}
	receipt.Network = connections.results()
	receipt.MeasuredAt = time.Now().UTC().Format(time.RFC3339Nano)
	return receipt
}

func kernel() Kernel {
	var name unix.Utsname
	if unix.Uname(&name) != nil {
		return Kernel{}
	}
	return Kernel{
		System:  unix.ByteSliceToString(name.Sysname[:]),
		Release: unix.ByteSliceToString(name.Release[:]),
		Version: unix.ByteSliceToString(name.Version[:]),
		Machine: unix.ByteSliceToString(name.Machine[:]),
	}
}

func limits() map[string]uint64 {
	result := map[string]uint64{}
	for key, resource := range map[string]int{
		"fileSizeBytes": unix.RLIMIT_FSIZE, "processes": unix.RLIMIT_NPROC, "openFiles": unix.RLIMIT_NOFILE,
		"coreBytes": unix.RLIMIT_CORE, "messageQueueBytes": unix.RLIMIT_MSGQUEUE,
		"pendingSignals": unix.RLIMIT_SIGPENDING,
	} {
		var limit unix.Rlimit
		if unix.Getrlimit(resource, &limit) == nil {
			result[key] = limit.Max
		}
	}
	return result
}

// processLimitHolds tries to fork beyond a limit of one process. There is no such program, so where the fork succeeds
// against the limit nothing is started.
func processLimitHolds() bool {
	var limit syscall.Rlimit
	if syscall.Getrlimit(unix.RLIMIT_NPROC, &limit) != nil {
		return false
	}
	if syscall.Setrlimit(unix.RLIMIT_NPROC, &syscall.Rlimit{Cur: 1, Max: limit.Max}) != nil {
		return false
	}
	_, err := syscall.ForkExec("/crucible/no-such-program", nil, nil)
	if syscall.Setrlimit(unix.RLIMIT_NPROC, &limit) != nil {
		return false
	}
	return errors.Is(err, unix.EAGAIN)
}

// holds checks what the launcher itself had to achieve. A filter that the kernel accepted and does not apply is no
// filter.
func (r *Receipt) holds() error {
	if !r.NoNewPrivs {
		return errors.New("no_new_privs was set and is not on")
	}
	if r.Seccomp != unix.SECCOMP_MODE_FILTER {
		return errors.New("the seccomp filter was installed and is not on")
	}
	if r.RootReadOnly { // a sandbox, and not a process of a developer's machine
		if path, found := foreignMount(r.writable); found {
			return fmt.Errorf("%s can be written to and is no folder of the sandbox: a VOLUME of the image, on the node's disk and without limit. "+
				"Use an image that declares none", path)
		}
	}
	for call, err := range r.Denied {
		if err == "" {
			return fmt.Errorf("the seccomp filter is on and lets %s through", call)
		}
	}
	return nil
}

func prctl(option, arg2, arg3 uintptr) int {
	value, _, errno := unix.RawSyscall(unix.SYS_PRCTL, option, arg2, arg3)
	if errno != 0 {
		return -1
	}
	return int(value)
}

func capabilities() map[string]string {
	sets := map[string]string{}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if unix.Capget(&header, &data[0]) == nil {
		mask := func(low, high uint32) string { return hex(uint64(high)<<32 | uint64(low)) }
		sets["effective"] = mask(data[0].Effective, data[1].Effective)
		sets["permitted"] = mask(data[0].Permitted, data[1].Permitted)
		sets["inheritable"] = mask(data[0].Inheritable, data[1].Inheritable)
	}
	if mask, ok := capabilityBits(unix.PR_CAPBSET_READ, 0); ok {
		sets["bounding"] = hex(mask)
	}
	if mask, ok := capabilityBits(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_IS_SET); ok {
		sets["ambient"] = hex(mask)
	}
	return sets
}

// capabilityBits asks for each capability until the kernel knows no more.
func capabilityBits(option, operation uintptr) (mask uint64, ok bool) {
	for bit := uintptr(0); bit < 64; bit++ {
		arg2, arg3 := bit, uintptr(0)
		if option == unix.PR_CAP_AMBIENT {
			arg2, arg3 = operation, bit
		}
		value := prctl(option, arg2, arg3)
		if value < 0 {
			break
		}
		ok = true
		mask |= uint64(value&1) << bit
	}
	return mask, ok
}

func hex(mask uint64) string { return fmt.Sprintf("%016x", mask) }

// rootReadOnly tries to create a file, which is what the rule is about, and falls back to the mount's flag where
// permissions already refuse that.
func rootReadOnly() bool {
	const probe = "/.crucible-probe"
	fd, err := unix.Open(probe, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o600)
	if err == nil {
		unix.Close(fd)
		unix.Unlink(probe)
		return false
	}
	if errors.Is(err, unix.EROFS) {
		return true
	}
	var stat unix.Statfs_t
	if unix.Statfs("/", &stat) == nil && stat.Flags&unix.ST_RDONLY != 0 {
		return true
	}
	mounts, _ := os.ReadFile("/proc/self/mounts")
	readOnly := false
	for _, line := range strings.Split(string(mounts), "\n") {
		if fields := strings.Fields(line); len(fields) > 3 && fields[1] == "/" {
			readOnly = strings.HasPrefix(fields[3]+",", "ro,") // the last mount of / is the one on top
		}
	}
	return readOnly
}

func tokenAbsent() bool {
	for _, place := range []string{
		"/var/run/secrets/kubernetes.io", "/run/secrets/kubernetes.io", "/var/run/secrets/tokens",
		"/var/run/secrets/eks.amazonaws.com", "/var/run/secrets/azure",
	} {
		var stat unix.Stat_t
		if err := unix.Lstat(place, &stat); !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENOTDIR) {
			return false
		}
	}
	return true
}

func sealed(launcher int) bool {
	fd, err := unix.Open("/proc/"+strconv.Itoa(launcher)+"/fd/1", unix.O_WRONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err == nil {
		unix.Close(fd)
	}
	return errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM)
}
