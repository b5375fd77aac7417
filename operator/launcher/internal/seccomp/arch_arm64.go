package seccomp

import "golang.org/x/sys/unix"

const (
	auditArch = unix.AUDIT_ARCH_AARCH64
	// No call has a number this high; amd64 has its x32 interface there.
	x32Bit = 0x40000000
)

var deniedHere = []uint32{unix.SYS_KEXEC_FILE_LOAD}
