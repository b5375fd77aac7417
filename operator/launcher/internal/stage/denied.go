package stage

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// denied tries calls that the filter refuses. Each is harmless if it gets through.
func denied(first uint32) map[string]string {
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
	if first > 0 {
		try("signalLauncher", unix.SYS_KILL, uintptr(unix.Getppid()), 0, 0)
	}
	socket("socketPacket", unix.AF_PACKET, unix.SOCK_DGRAM, 0)
	socket("socketAlg", unix.AF_ALG, unix.SOCK_SEQPACKET, 0)
	socket("socketVsock", unix.AF_VSOCK, unix.SOCK_STREAM, 0)
	socket("socketRaw", unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP)
	return results
}
