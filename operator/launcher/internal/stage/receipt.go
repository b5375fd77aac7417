package stage

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Receipt is what the stage measured about itself at the last moment before it became the code, with the code's own
// rights.
type Receipt struct {
	Version      int               `json:"version"`
	UID          int               `json:"uid"`
	GID          int               `json:"gid"`
	Groups       []int             `json:"groups"`
	Capabilities map[string]string `json:"caps"`    // hexadecimal masks; a set that could not be read is missing
	Seccomp      int               `json:"seccomp"` // 2: a filter is on
	NoNewPrivs   bool              `json:"noNewPrivs"`
	RootReadOnly bool              `json:"rootReadOnly"`
	TokenAbsent  bool              `json:"tokenAbsent"`
	// LauncherSealed tells that the launcher's descriptors cannot be opened from here.
	LauncherSealed bool              `json:"launcherSealed"`
	LauncherPID    int               `json:"launcherPid"`
	Kernel         Kernel            `json:"kernel"`
	Limits         map[string]uint64 `json:"limits"`
	Denied         map[string]string `json:"denied"` // calls that were tried, and the error they got; "" if none
}

// Kernel is what uname says; under gVisor it is gVisor's.
type Kernel struct {
	System  string `json:"system"`
	Release string `json:"release"`
	Version string `json:"version"`
	Machine string `json:"machine"`
}

// Measure looks at the calling thread.
func Measure() *Receipt {
	receipt := &Receipt{
		Version:        1,
		UID:            unix.Getuid(),
		GID:            unix.Getgid(),
		Groups:         []int{},
		Capabilities:   capabilities(),
		Seccomp:        prctl(unix.PR_GET_SECCOMP, 0, 0),
		NoNewPrivs:     prctl(unix.PR_GET_NO_NEW_PRIVS, 0, 0) == 1,
		RootReadOnly:   rootReadOnly(),
		TokenAbsent:    tokenAbsent(),
		LauncherPID:    unix.Getppid(),
		LauncherSealed: sealed(unix.Getppid()),
		Limits:         map[string]uint64{},
		Denied:         denied(),
	}
	if groups, err := unix.Getgroups(); err == nil {
		receipt.Groups = append(receipt.Groups, groups...)
	}
	var name unix.Utsname
	if unix.Uname(&name) == nil {
		receipt.Kernel = Kernel{
			System:  unix.ByteSliceToString(name.Sysname[:]),
			Release: unix.ByteSliceToString(name.Release[:]),
			Version: unix.ByteSliceToString(name.Version[:]),
			Machine: unix.ByteSliceToString(name.Machine[:]),
		}
	}
	for key, resource := range map[string]int{
		"fileSizeBytes": unix.RLIMIT_FSIZE, "processes": unix.RLIMIT_NPROC,
		"openFiles": unix.RLIMIT_NOFILE, "coreBytes": unix.RLIMIT_CORE,
	} {
		var limit unix.Rlimit
		if unix.Getrlimit(resource, &limit) == nil {
			receipt.Limits[key] = limit.Max
		}
	}
	return receipt
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

// denied tries calls that the filter refuses. Each is harmless if it gets through.
func denied() map[string]string {
	results := map[string]string{}
	try := func(name string, number, a, b, c uintptr) {
		_, _, errno := unix.RawSyscall(number, a, b, c)
		results[name] = unix.ErrnoName(errno)
	}
	socket := func(name string, domain, kind, protocol int) {
		fd, err := unix.Socket(domain, kind|unix.SOCK_CLOEXEC, protocol)
		if err == nil {
			unix.Close(fd)
		}
		errno, _ := err.(unix.Errno)
		results[name] = unix.ErrnoName(errno)
	}
	var attributes [128]byte
	nothing := uintptr(unsafe.Pointer(&attributes[0]))
	try("unshareUserNamespace", unix.SYS_UNSHARE, unix.CLONE_NEWUSER, 0, 0)
	try("mount", unix.SYS_MOUNT, 0, 0, 0)
	try("ioUring", unix.SYS_IO_URING_SETUP, 0, 0, 0)
	try("bpf", unix.SYS_BPF, ^uintptr(0), nothing, 0)
	try("perfEvent", unix.SYS_PERF_EVENT_OPEN, nothing, 0, 0)
	try("keyctl", unix.SYS_KEYCTL, ^uintptr(0), 0, 0)
	try("openByHandle", unix.SYS_OPEN_BY_HANDLE_AT, ^uintptr(0), nothing, 0)
	try("ptrace", unix.SYS_PTRACE, ^uintptr(0), 0, 0)
	socket("socketPacket", unix.AF_PACKET, unix.SOCK_DGRAM, 0)
	socket("socketAlg", unix.AF_ALG, unix.SOCK_SEQPACKET, 0)
	socket("socketVsock", unix.AF_VSOCK, unix.SOCK_STREAM, 0)
	socket("socketRaw", unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP)
	return results
}
