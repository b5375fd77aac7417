package seccomp

import (
	"testing"

	"golang.org/x/sys/unix"
)

// call is what the kernel shows a filter.
type call struct {
	number, arch uint32
	args         [6]uint64
}

// evaluate runs a filter as the kernel does, for the few instructions that filters here use.
func evaluate(t *testing.T, program []unix.SockFilter, c call) uint32 {
	t.Helper()
	word := func(offset uint32) uint32 {
		switch {
		case offset == offsetNumber:
			return c.number
		case offset == offsetArch:
			return c.arch
		case offset >= offsetArgs && offset < offsetArgs+48 && offset%4 == 0:
			return uint32(c.args[(offset-offsetArgs)/8] >> (offset % 8 * 8))
		}
		t.Fatalf("load from %d", offset)
		return 0
	}
	accumulator := uint32(0)
	for at := 0; at < len(program); at++ {
		instruction := program[at]
		jump := func(holds bool) {
			if holds {
				at += int(instruction.Jt)
			} else {
				at += int(instruction.Jf)
			}
		}
		switch instruction.Code {
		case unix.BPF_LD | unix.BPF_W | unix.BPF_ABS:
			accumulator = word(instruction.K)
		case unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K:
			jump(accumulator == instruction.K)
		case unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K:
			jump(accumulator >= instruction.K)
		case unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K:
			jump(accumulator&instruction.K != 0)
		case unix.BPF_ALU | unix.BPF_AND | unix.BPF_K:
			accumulator &= instruction.K
		case unix.BPF_RET | unix.BPF_K:
			return instruction.K
		default:
			t.Fatalf("instruction %#x at %d", instruction.Code, at)
		}
	}
	t.Fatal("the program does not end")
	return 0
}

func TestFilterDecisions(t *testing.T) {
	program := Filter(20)
	if len(program) > 4096 {
		t.Fatalf("%d instructions are more than the kernel takes", len(program))
	}
	args := func(values ...uint64) (a [6]uint64) { copy(a[:], values); return }
	const other = unix.AUDIT_ARCH_I386
	for name, test := range map[string]struct {
		call call
		want uint32
	}{
		"read":                        {call{unix.SYS_READ, auditArch, args()}, allow},
		"execve":                      {call{unix.SYS_EXECVE, auditArch, args()}, allow},
		"another architecture":        {call{unix.SYS_READ, other, args()}, denyNosys},
		"x32":                         {call{unix.SYS_READ | x32Bit, auditArch, args()}, denyNosys},
		"x32 io_uring":                {call{unix.SYS_IO_URING_SETUP | x32Bit, auditArch, args()}, denyNosys},
		"clone3":                      {call{unix.SYS_CLONE3, auditArch, args()}, denyNosys},
		"fork":                        {call{unix.SYS_CLONE, auditArch, args(uint64(unix.SIGCHLD))}, allow},
		"thread":                      {call{unix.SYS_CLONE, auditArch, args(0x3d0f00)}, allow},
		"clone in a user namespace":   {call{unix.SYS_CLONE, auditArch, args(unix.CLONE_NEWUSER)}, denyPerm},
		"clone in a cgroup namespace": {call{unix.SYS_CLONE, auditArch, args(unix.CLONE_NEWCGROUP)}, denyPerm},
		"unshare files":               {call{unix.SYS_UNSHARE, auditArch, args(unix.CLONE_FILES)}, allow},
		"unshare time":                {call{unix.SYS_UNSHARE, auditArch, args(unix.CLONE_NEWTIME)}, denyPerm},
		"unshare network":             {call{unix.SYS_UNSHARE, auditArch, args(unix.CLONE_NEWNET)}, denyPerm},
		"own limits":                  {call{unix.SYS_PRLIMIT64, auditArch, args(0)}, allow},
		"another's limits":            {call{unix.SYS_PRLIMIT64, auditArch, args(1)}, denyPerm},
		"unix socket":                 {call{unix.SYS_SOCKET, auditArch, args(unix.AF_UNIX, unix.SOCK_DGRAM)}, allow},
		"TCP":                         {call{unix.SYS_SOCKET, auditArch, args(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)}, allow},
		"UDP":                         {call{unix.SYS_SOCKET, auditArch, args(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK)}, allow},
		"ping":                        {call{unix.SYS_SOCKET, auditArch, args(unix.AF_INET, unix.SOCK_DGRAM, unix.IPPROTO_ICMP)}, denyPerm},
		"SCTP":                        {call{unix.SYS_SOCKET, auditArch, args(unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_SCTP)}, denyPerm},
		"raw":                         {call{unix.SYS_SOCKET, auditArch, args(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_NONBLOCK, 1)}, denyPerm},
		"packet by type":              {call{unix.SYS_SOCKET, auditArch, args(unix.AF_INET, unix.SOCK_PACKET, 3)}, denyPerm},
		"packet":                      {call{unix.SYS_SOCKET, auditArch, args(unix.AF_PACKET, unix.SOCK_DGRAM)}, denyPerm},
		"vsock":                       {call{unix.SYS_SOCKET, auditArch, args(unix.AF_VSOCK, unix.SOCK_STREAM)}, denyPerm},
		"packet behind high bits":     {call{unix.SYS_SOCKET, auditArch, args(1<<32|unix.AF_PACKET, unix.SOCK_RAW)}, denyPerm},
		"route":                       {call{unix.SYS_SOCKET, auditArch, args(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE)}, allow},
		"audit":                       {call{unix.SYS_SOCKET, auditArch, args(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_AUDIT)}, denyPerm},
		"pair":                        {call{unix.SYS_SOCKETPAIR, auditArch, args(unix.AF_UNIX, unix.SOCK_STREAM)}, allow},
		"signal to the launcher":      {call{unix.SYS_KILL, auditArch, args(1, 9)}, denyPerm},
		"behind high bits":            {call{unix.SYS_KILL, auditArch, args(1<<32|1, 9)}, denyPerm},
		"to a thread of it":           {call{unix.SYS_TKILL, auditArch, args(19, 9)}, denyPerm},
		"to the code":                 {call{unix.SYS_KILL, auditArch, args(20, 9)}, allow},
		"to its own group":            {call{unix.SYS_KILL, auditArch, args(0, 9)}, allow},
		"to a group":                  {call{unix.SYS_KILL, auditArch, args(0xffffffec, 9)}, allow},
		"by a descriptor":             {call{unix.SYS_PIDFD_SEND_SIGNAL, auditArch, args(5, 9)}, denyNosys},
		"a descriptor of itself":      {call{unix.SYS_PIDFD_OPEN, auditArch, args(20)}, allow},
		"a descriptor of it":          {call{unix.SYS_PIDFD_OPEN, auditArch, args(1)}, denyPerm},
		"its own priority":            {call{unix.SYS_SETPRIORITY, auditArch, args(unix.PRIO_PROCESS, 0, 5)}, allow},
		"the launcher's priority":     {call{unix.SYS_SETPRIORITY, auditArch, args(unix.PRIO_PROCESS, 1, 19)}, denyPerm},
		"the user's priority":         {call{unix.SYS_SETPRIORITY, auditArch, args(unix.PRIO_USER, 0, 19)}, denyPerm},
		"its own processors":          {call{unix.SYS_SCHED_SETAFFINITY, auditArch, args(0)}, allow},
		"the launcher's processors":   {call{unix.SYS_SCHED_SETAFFINITY, auditArch, args(1)}, denyPerm},
		"a file that kills":           {call{unix.SYS_FCNTL, auditArch, args(3, unix.F_SETSIG, uint64(unix.SIGKILL))}, denyPerm},
		"a file that stops":           {call{unix.SYS_FCNTL, auditArch, args(3, unix.F_SETSIG, uint64(unix.SIGSTOP))}, denyPerm},
		"a file that says so":         {call{unix.SYS_FCNTL, auditArch, args(3, unix.F_SETSIG, uint64(unix.SIGIO))}, allow},
		"flags of a file":             {call{unix.SYS_FCNTL, auditArch, args(3, unix.F_GETFL, uint64(unix.SIGKILL))}, allow},
		"pair of another family":      {call{unix.SYS_SOCKETPAIR, auditArch, args(unix.AF_TIPC, unix.SOCK_STREAM)}, denyPerm},
	} {
		if got := evaluate(t, program, test.call); got != test.want {
			t.Errorf("%s: %#x, want %#x", name, got, test.want)
		}
	}
	for _, number := range denied {
		if got := evaluate(t, program, call{number, auditArch, args()}); got != denyPerm {
			t.Errorf("call %d: %#x", number, got)
		}
	}
}

// Every other call is left to the kernel: a mistake in a jump would show here.
func TestOtherCallsAreAllowed(t *testing.T) {
	special := map[uint32]bool{
		unix.SYS_CLONE3: true, unix.SYS_SOCKET: true, unix.SYS_SOCKETPAIR: true, unix.SYS_PRLIMIT64: true,
	}
	for _, number := range denied {
		special[number] = true
	}
	program := Filter(0)
	for number := uint32(0); number < 600; number++ {
		if got := evaluate(t, program, call{number: number, arch: auditArch}); !special[number] && got != allow {
			t.Errorf("call %d: %#x", number, got)
		}
	}
}
