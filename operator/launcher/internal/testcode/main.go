// testcode plays the code under evaluation in tests: what a shell cannot do, such as raw system calls.
package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

func main() {
	switch os.Args[1] {
	case "write": // write BYTES SEED LINE: pseudo-random bytes, a line feed in one of LINE bytes
		write(number(2), uint32(number(3)), number(4))
	case "attack":
		attack()
	case "end":
		end()
	case "queues":
		name := []byte("crucible\x00")
		_, _, err := unix.RawSyscall6(unix.SYS_MQ_OPEN, uintptr(unsafe.Pointer(&name[0])), unix.O_CREAT|unix.O_RDWR, 0o600, 0, 0, 0)
		var limit unix.Rlimit
		check(unix.Prlimit(0, unix.RLIMIT_MSGQUEUE, nil, &limit))
		fmt.Printf("mq_open=%s\nmsgqueue=%d\n", unix.ErrnoName(err), limit.Max)
	case "timers":
		timers()
	case "filter":
		filter()
	case "fds":
		fds()
	case "limits":
		limits()
	case "signals": // every signal that can be sent to the parent, over and over
		parent := os.Getppid()
		unhandled := map[int]bool{32: parent != 1, 34: parent != 1} // by Go; the kernel keeps them from process 1
		for round := 0; round < 3; round++ {
			for number := 1; number < 65; number++ {
				if s := syscall.Signal(number); s != syscall.SIGKILL && s != syscall.SIGSTOP && s != syscall.SIGTERM && s != syscall.SIGINT && !unhandled[number] {
					_ = syscall.Kill(parent, s)
				}
			}
			time.Sleep(20 * time.Millisecond)
		}
		fmt.Println("sent")
	case "daemon": // a child in its own session that keeps stdout and writes for ever
		again(&syscall.SysProcAttr{Setsid: true}, "ticks")
		fmt.Println("main done")
	case "ticks":
		signal.Ignore(syscall.SIGTERM, syscall.SIGHUP)
		for {
			fmt.Println("tick")
			time.Sleep(20 * time.Millisecond)
		}
	case "stubborn": // ignores SIGTERM, and so do its children and theirs
		signal.Ignore(syscall.SIGTERM)
		if depth := number(2); depth > 0 {
			again(&syscall.SysProcAttr{Setsid: true}, "stubborn", strconv.Itoa(depth-1))
		}
		fmt.Println("stubborn", os.Getpid())
		for {
			time.Sleep(time.Hour)
		}
	case "without": // without CALL ERRNO COMMAND…: the command on a kernel that fails this call
		without(uint32(number(2)), uint32(number(3)), os.Args[4:])
	case "many": // many DIRECTORY COUNT: that many empty files
		for i := 0; i < number(3); i++ {
			fd, err := unix.Open(os.Args[2]+"/"+strconv.Itoa(i), unix.O_CREAT|unix.O_WRONLY, 0o600)
			check(err)
			unix.Close(fd)
		}
	case "socketfile":
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
		check(err)
		check(unix.Bind(fd, &unix.SockaddrUnix{Name: os.Args[2]}))
	case "ready": // for measuring the time from the launcher's start to the code's first output
		os.Stdout.WriteString("ready\n")
	default:
		os.Exit(99)
	}
}

func number(i int) int {
	value, err := strconv.Atoi(os.Args[i])
	check(err)
	return value
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(98)
	}
}

func again(attributes *syscall.SysProcAttr, arguments ...string) {
	command := exec.Command("/proc/self/exe", arguments...)
	command.Stdout, command.Stderr, command.SysProcAttr = os.Stdout, os.Stderr, attributes
	check(command.Start())
}

func write(bytes int, seed uint32, line int) {
	out := bufio.NewWriterSize(os.Stdout, 64<<10)
	for i := 0; i < bytes; i++ {
		seed = seed*1664525 + 1013904223
		value := byte(seed >> 24)
		if value == '\n' {
			value = 'x'
		}
		if line > 0 && int(seed>>8)%line == 0 {
			value = '\n'
		}
		check(out.WriteByte(value))
	}
	check(out.Flush())
}

func attack() {
	launcher := fmt.Sprintf("/proc/%d/", os.Getppid())
	report := func(name string, err error) { fmt.Printf("%s=%v\n", name, err == nil) }
	for _, name := range []string{"fd/1", "mem", "environ"} {
		file, err := os.OpenFile(launcher+name, os.O_WRONLY, 0)
		if err == nil && name == "fd/1" {
			fmt.Fprintln(file, `999 s|{"forged":true}`)
		}
		report("write "+name, err)
	}
	_, err := os.ReadDir(launcher + "fd")
	report("list fd", err)
	_, err = os.Readlink(launcher + "exe")
	report("read exe", err)
	report("ptrace", unix.PtraceAttach(os.Getppid()))
	var limit unix.Rlimit
	report("prlimit", unix.Prlimit(os.Getppid(), unix.RLIMIT_NOFILE, nil, &limit))
	fmt.Println(`1000 s|{"forged":true}`)
}

// end tries to end or to stop process 1.
func end() {
	try := func(name string, number uintptr, arguments ...uintptr) {
		var a [6]uintptr
		copy(a[:], arguments)
		_, _, err := unix.RawSyscall6(number, a[0], a[1], a[2], a[3], a[4], a[5])
		fmt.Printf("%s=%s\n", name, unix.ErrnoName(err))
	}
	kill, stop := uintptr(unix.SIGKILL), uintptr(unix.SIGSTOP)
	var information [128]byte
	try("kill KILL", unix.SYS_KILL, 1, kill)
	try("kill STOP", unix.SYS_KILL, 1, stop)
	try("tkill", unix.SYS_TKILL, 2, kill)
	try("tgkill", unix.SYS_TGKILL, 1, 1, kill)
	try("queue", unix.SYS_RT_SIGQUEUEINFO, 1, stop, uintptr(unsafe.Pointer(&information[0])))
	try("pidfd", unix.SYS_PIDFD_OPEN, 1, 0)
	directory, _ := unix.Open("/proc/1", unix.O_DIRECTORY, 0)
	try("by descriptor", unix.SYS_PIDFD_SEND_SIGNAL, uintptr(directory), kill, 0, 0)
	try("nice", unix.SYS_SETPRIORITY, unix.PRIO_USER, 0, 19)
	try("affinity", unix.SYS_SCHED_SETAFFINITY, 1, 8, uintptr(unsafe.Pointer(&information[0])))
	try("file", unix.SYS_FCNTL, 0, unix.F_SETSIG, kill)
	try("file TERM", unix.SYS_FCNTL, 0, unix.F_SETSIG, uintptr(unix.SIGTERM))
	try("file INT", unix.SYS_FCNTL, 0, unix.F_SETSIG, uintptr(unix.SIGINT))
	try("file IO", unix.SYS_FCNTL, 0, unix.F_SETSIG, uintptr(unix.SIGIO))
	try("itself", unix.SYS_KILL, uintptr(os.Getpid()), 0)
	signal.Ignore(syscall.SIGUSR1)
	try("group", unix.SYS_KILL, 0, uintptr(unix.SIGUSR1))
}

func filter() {
	errno := func(name string, number uintptr, arguments ...uintptr) {
		var a [6]uintptr
		copy(a[:], arguments)
		_, _, err := unix.RawSyscall6(number, a[0], a[1], a[2], a[3], a[4], a[5])
		fmt.Printf("%s=%s\n", name, unix.ErrnoName(err))
	}
	var zeros [256]byte
	p := uintptr(unsafe.Pointer(&zeros[0]))
	errno("clone3", unix.SYS_CLONE3, p, 0)
	errno("clone newuser", unix.SYS_CLONE, unix.CLONE_NEWUSER|uintptr(unix.SIGCHLD))
	errno("unshare newuser", unix.SYS_UNSHARE, unix.CLONE_NEWUSER)
	errno("unshare newtime", unix.SYS_UNSHARE, unix.CLONE_NEWTIME)
	for name, number := range map[string]uintptr{
		"io_uring_setup": unix.SYS_IO_URING_SETUP, "bpf": unix.SYS_BPF, "userfaultfd": unix.SYS_USERFAULTFD,
		"perf_event_open": unix.SYS_PERF_EVENT_OPEN, "keyctl": unix.SYS_KEYCTL, "add_key": unix.SYS_ADD_KEY,
		"kexec_load": unix.SYS_KEXEC_LOAD, "mount": unix.SYS_MOUNT, "fsopen": unix.SYS_FSOPEN, "setns": unix.SYS_SETNS,
		"process_vm_readv": unix.SYS_PROCESS_VM_READV, "chroot": unix.SYS_CHROOT, "pivot_root": unix.SYS_PIVOT_ROOT,
		"open_by_handle_at": unix.SYS_OPEN_BY_HANDLE_AT, "name_to_handle_at": unix.SYS_NAME_TO_HANDLE_AT,
		"init_module": unix.SYS_INIT_MODULE, "reboot": unix.SYS_REBOOT, "swapon": unix.SYS_SWAPON, "acct": unix.SYS_ACCT,
		"pidfd_getfd": unix.SYS_PIDFD_GETFD,
	} {
		errno(name, number)
	}
	socket := func(name string, domain, kind, protocol int) {
		errno("socket "+name, unix.SYS_SOCKET, uintptr(domain), uintptr(kind), uintptr(protocol))
	}
	socket("unix", unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	socket("tcp", unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0)
	socket("udp", unix.AF_INET, unix.SOCK_DGRAM, unix.IPPROTO_UDP)
	socket("route", unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE)
	socket("netfilter", unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_NETFILTER)
	socket("raw", unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP)
	socket("raw6", unix.AF_INET6, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMPV6)
	socket("ping", unix.AF_INET, unix.SOCK_DGRAM, unix.IPPROTO_ICMP)
	socket("packet", unix.AF_PACKET, unix.SOCK_RAW, 0)
	socket("alg", unix.AF_ALG, unix.SOCK_SEQPACKET, 0)
	socket("vsock", unix.AF_VSOCK, unix.SOCK_STREAM, 0)
	// The domain is an int: high bits of the register must not smuggle another one past the filter.
	errno("socket high bits", unix.SYS_SOCKET, uintptr(unix.AF_PACKET)|1<<32, unix.SOCK_RAW, 0)
	status, _ := os.ReadFile("/proc/self/status")
	for _, line := range strings.Split(string(status), "\n") {
		if key, value, _ := strings.Cut(line, ":"); key == "Seccomp" || key == "NoNewPrivs" || key == "SigBlk" {
			fmt.Printf("%s=%s\n", key, strings.TrimSpace(value))
		}
	}
	// Last, because the runtime's threads no longer share their descriptors after it.
	errno("unshare files", unix.SYS_UNSHARE, unix.CLONE_FILES)
}

func fds() {
	for fd := 0; fd < 4096; fd++ {
		link, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
		if err == nil && !strings.Contains(link, "eventpoll") && !strings.Contains(link, "eventfd") {
			kind, _, _ := strings.Cut(link, ":")
			fmt.Println(fd, kind)
		}
	}
	input, _ := io.ReadAll(os.Stdin)
	fmt.Printf("stdin=%q\n", input)
	for _, entry := range os.Environ() {
		fmt.Println("env", entry)
	}
	directory, _ := os.Getwd()
	fmt.Println("cwd", directory)
}

func limits() {
	for name, resource := range map[string]int{
		"fsize": unix.RLIMIT_FSIZE, "nofile": unix.RLIMIT_NOFILE, "core": unix.RLIMIT_CORE, "nproc": unix.RLIMIT_NPROC,
		"sigpending": unix.RLIMIT_SIGPENDING,
	} {
		var limit unix.Rlimit
		check(unix.Prlimit(0, resource, nil, &limit))
		fmt.Printf("%s=%d\n", name, limit.Max)
	}
}

// timers makes as many as it gets; none is ever set.
func timers() {
	const most = 20_000
	var id int32
	for count := 0; count < most; count++ {
		if _, _, err := unix.RawSyscall6(unix.SYS_TIMER_CREATE, unix.CLOCK_MONOTONIC, 0, uintptr(unsafe.Pointer(&id)), 0, 0, 0); err != 0 {
			fmt.Printf("%d timers, then %s\n", count, unix.ErrnoName(err))
			for len(os.Args) > 2 { // "wait": for ever
				time.Sleep(time.Hour)
			}
			return
		}
	}
	fmt.Println("no limit")
}

func without(call, errno uint32, command []string) {
	runtime.LockOSThread()
	program := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: call, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | errno},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	header := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	check(unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
	check(unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&header)), 0, 0))
	check(syscall.Exec(command[0], command, os.Environ()))
}
