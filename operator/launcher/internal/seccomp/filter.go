// Package seccomp builds the system call filter of the code under evaluation. It is the launcher's own because gVisor
// ignores the filter of the container runtime and because nodes differ. It is a deny-list: what a program asks for that
// has no place in a sandbox fails with an error the program can handle, and everything else is left to the kernel.
package seccomp

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Offsets in struct seccomp_data. Both architectures are little-endian, so the low half of an argument comes first.
const (
	offsetNumber = 0
	offsetArch   = 4
	offsetArgs   = 16
)

func offsetArg(n uint32) uint32 { return offsetArgs + 8*n }

const (
	allow     = unix.SECCOMP_RET_ALLOW
	denyPerm  = unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)
	denyNosys = unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)
)

// newNamespaces are the flags that make a namespace. clone cannot ask for CLONE_NEWTIME: that bit is part of its signal.
const newNamespaces = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC |
	unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET

const socketTypeMask = 0xf // above it are SOCK_CLOEXEC and SOCK_NONBLOCK

// Calls that x/sys does not name in every version; the numbers are the same on all architectures.
const (
	sysOpenTreeAttr = 467
)

// denied fail whatever their arguments are.
var denied = append([]uint32{
	// Kernel attack surface that sandboxes are known to leak through.
	unix.SYS_IO_URING_SETUP, unix.SYS_IO_URING_ENTER, unix.SYS_IO_URING_REGISTER,
	unix.SYS_BPF, unix.SYS_PERF_EVENT_OPEN, unix.SYS_USERFAULTFD,
	unix.SYS_KEYCTL, unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY,
	unix.SYS_FANOTIFY_INIT, unix.SYS_LOOKUP_DCOOKIE, unix.SYS_NFSSERVCTL,
	// Files by handle reach outside the mount namespace.
	unix.SYS_OPEN_BY_HANDLE_AT, unix.SYS_NAME_TO_HANDLE_AT,
	// Mounts and roots.
	unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_MOVE_MOUNT, unix.SYS_OPEN_TREE, sysOpenTreeAttr, unix.SYS_FSOPEN,
	unix.SYS_FSCONFIG, unix.SYS_FSMOUNT, unix.SYS_FSPICK, unix.SYS_MOUNT_SETATTR, unix.SYS_PIVOT_ROOT, unix.SYS_CHROOT,
	unix.SYS_SETNS,
	// Other processes' memory and descriptors, the launcher's above all.
	unix.SYS_PTRACE, unix.SYS_PROCESS_VM_READV, unix.SYS_PROCESS_VM_WRITEV, unix.SYS_PIDFD_GETFD, unix.SYS_KCMP,
	unix.SYS_PROCESS_MADVISE, unix.SYS_MOVE_PAGES, unix.SYS_MIGRATE_PAGES,
	// The machine.
	unix.SYS_KEXEC_LOAD, unix.SYS_INIT_MODULE, unix.SYS_FINIT_MODULE, unix.SYS_DELETE_MODULE, unix.SYS_REBOOT,
	unix.SYS_SWAPON, unix.SYS_SWAPOFF, unix.SYS_QUOTACTL, unix.SYS_QUOTACTL_FD, unix.SYS_ACCT, unix.SYS_SYSLOG,
	unix.SYS_SETTIMEOFDAY, unix.SYS_CLOCK_SETTIME, unix.SYS_SETHOSTNAME, unix.SYS_SETDOMAINNAME, unix.SYS_VHANGUP,
}, deniedHere...)

// Filter is the program for the architecture this is compiled for.
func Filter() []unix.SockFilter {
	b := &builder{}
	b.load(offsetArch)
	b.unless(unix.BPF_JEQ, auditArch, denyNosys)
	b.load(offsetNumber)
	b.when(unix.BPF_JGE, x32Bit, denyNosys)
	b.when(unix.BPF_JEQ, unix.SYS_CLONE3, denyNosys) // so that libc falls back to clone, whose flags can be read
	for _, number := range denied {
		b.when(unix.BPF_JEQ, number, denyPerm)
	}
	b.call(unix.SYS_CLONE, func() {
		b.load(offsetArg(0))
		b.when(unix.BPF_JSET, newNamespaces, denyPerm)
	})
	b.call(unix.SYS_UNSHARE, func() {
		b.load(offsetArg(0))
		b.when(unix.BPF_JSET, newNamespaces|unix.CLONE_NEWTIME, denyPerm)
	})
	// Limits are checked by uid, not by who may trace whom: without this the code could set the launcher's.
	b.call(unix.SYS_PRLIMIT64, func() {
		b.load(offsetArg(0))
		b.unless(unix.BPF_JEQ, 0, denyPerm)
	})
	b.call(unix.SYS_SOCKETPAIR, func() {
		b.load(offsetArg(0))
		b.unless(unix.BPF_JEQ, unix.AF_UNIX, denyPerm)
	})
	b.call(unix.SYS_SOCKET, b.socket)
	b.add(unix.BPF_RET|unix.BPF_K, allow, 0, 0)
	return b.program
}

// socket allows local sockets, TCP and UDP, and asking the kernel about its routes and addresses (getifaddrs does).
func (b *builder) socket() {
	b.load(offsetArg(0))
	b.when(unix.BPF_JEQ, unix.AF_UNIX, allow)
	b.block(unix.BPF_JEQ, unix.AF_NETLINK, func() {
		b.load(offsetArg(2))
		b.when(unix.BPF_JEQ, unix.NETLINK_ROUTE, allow)
		b.ret(denyPerm)
	})
	b.block(unix.BPF_JEQ, unix.AF_INET, b.internet)
	b.block(unix.BPF_JEQ, unix.AF_INET6, b.internet)
	b.ret(denyPerm)
}

func (b *builder) internet() {
	b.load(offsetArg(1))
	b.add(unix.BPF_ALU|unix.BPF_AND|unix.BPF_K, socketTypeMask, 0, 0)
	b.block(unix.BPF_JEQ, unix.SOCK_STREAM, func() { b.protocols(unix.IPPROTO_TCP) })
	b.block(unix.BPF_JEQ, unix.SOCK_DGRAM, func() { b.protocols(unix.IPPROTO_UDP) })
	b.ret(denyPerm)
}

func (b *builder) protocols(named uint32) {
	b.load(offsetArg(2))
	b.when(unix.BPF_JEQ, 0, allow)
	b.when(unix.BPF_JEQ, named, allow)
	b.ret(denyPerm)
}

// Install sets no_new_privs and the filter on the calling thread; what it executes keeps both.
func Install() error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("no_new_privs: %w", err)
	}
	program := Filter()
	header := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	_, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&header)))
	if errno != 0 {
		return fmt.Errorf("seccomp filter: %w", errno)
	}
	return nil
}
