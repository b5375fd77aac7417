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
	ioprioWhoUser   = 3
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
	// Message queues live in a file system of their own that has no size.
	unix.SYS_MQ_OPEN,
	// The machine.
	unix.SYS_KEXEC_LOAD, unix.SYS_INIT_MODULE, unix.SYS_FINIT_MODULE, unix.SYS_DELETE_MODULE, unix.SYS_REBOOT,
	unix.SYS_SWAPON, unix.SYS_SWAPOFF, unix.SYS_QUOTACTL, unix.SYS_QUOTACTL_FD, unix.SYS_ACCT, unix.SYS_SYSLOG,
	unix.SYS_SETTIMEOFDAY, unix.SYS_CLOCK_SETTIME, unix.SYS_SETHOSTNAME, unix.SYS_SETDOMAINNAME, unix.SYS_VHANGUP,
}, deniedHere...)

// addressed are calls whose argument of that index is the process they act upon: its signals, and how much of the
// processor it gets.
var addressed = []struct{ number, argument uint32 }{
	{unix.SYS_KILL, 0}, {unix.SYS_TKILL, 0}, {unix.SYS_TGKILL, 0}, {unix.SYS_RT_SIGQUEUEINFO, 0},
	{unix.SYS_RT_TGSIGQUEUEINFO, 0}, {unix.SYS_PIDFD_OPEN, 0}, {unix.SYS_SCHED_SETSCHEDULER, 0},
	{unix.SYS_SCHED_SETPARAM, 0}, {unix.SYS_SCHED_SETATTR, 0}, {unix.SYS_SCHED_SETAFFINITY, 0},
	{unix.SYS_SETPRIORITY, 1}, {unix.SYS_IOPRIO_SET, 1},
}

// Filter is the program for the architecture this is compiled for. Processes below first (and above 0) are out of reach:
// Linux keeps most signals from process 1 and gVisor keeps none, so there the code could end or stop its launcher. With
// first 0 that is left out.
func Filter(first uint32) []unix.SockFilter {
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
	if first > 0 {
		b.protect(first)
	}
	b.add(unix.BPF_RET|unix.BPF_K, allow, 0, 0)
	return b.program
}

// protect keeps the processes below first from what the others may do to each other.
func (b *builder) protect(first uint32) {
	b.when(unix.BPF_JEQ, unix.SYS_PIDFD_SEND_SIGNAL, denyNosys) // whose descriptor it is cannot be seen
	for _, each := range addressed {
		b.call(each.number, func() {
			if each.number == unix.SYS_SETPRIORITY || each.number == unix.SYS_IOPRIO_SET {
				b.load(offsetArg(0)) // by user: the launcher has the same
				b.when(unix.BPF_JEQ, map[uint32]uint32{unix.SYS_SETPRIORITY: unix.PRIO_USER, unix.SYS_IOPRIO_SET: ioprioWhoUser}[each.number], denyPerm)
			}
			b.load(offsetArg(each.argument))
			b.when(unix.BPF_JEQ, 0, allow) // itself, or its own group; groups are negative, that is, large
			b.unless(unix.BPF_JGE, first, denyPerm)
		})
	}
	// Otherwise a file or socket could be made to send them: what ends or stops the launcher, and what it takes for the
	// kubelet's wish that it ends.
	b.call(unix.SYS_FCNTL, func() {
		b.load(offsetArg(1))
		b.block(unix.BPF_JEQ, unix.F_SETSIG, func() {
			b.load(offsetArg(2))
			for _, signal := range []unix.Signal{unix.SIGKILL, unix.SIGSTOP, unix.SIGTERM, unix.SIGINT} {
				b.when(unix.BPF_JEQ, uint32(signal), denyPerm)
			}
			b.ret(allow)
		})
	})
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

// Install sets no_new_privs and the filter on the calling thread; what it executes keeps both. For first see Filter.
func Install(first uint32) error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("no_new_privs: %w", err)
	}
	program := Filter(first)
	header := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	_, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&header)))
	if errno != 0 {
		return fmt.Errorf("seccomp filter: %w", errno)
	}
	return nil
}
