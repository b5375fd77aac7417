package seccomp

import "golang.org/x/sys/unix"

type builder struct{ program []unix.SockFilter }

func (b *builder) add(code uint16, k uint32, jumpTrue, jumpFalse uint8) {
	b.program = append(b.program, unix.SockFilter{Code: code, Jt: jumpTrue, Jf: jumpFalse, K: k})
}

func (b *builder) load(offset uint32) { b.add(unix.BPF_LD|unix.BPF_W|unix.BPF_ABS, offset, 0, 0) }

func (b *builder) ret(action uint32) { b.add(unix.BPF_RET|unix.BPF_K, action, 0, 0) }

// when ends with action if the comparison holds.
func (b *builder) when(comparison uint16, k uint32, action uint32) {
	b.add(unix.BPF_JMP|comparison|unix.BPF_K, k, 0, 1)
	b.ret(action)
}

// unless ends with action if the comparison does not hold.
func (b *builder) unless(comparison uint16, k uint32, action uint32) {
	b.add(unix.BPF_JMP|comparison|unix.BPF_K, k, 1, 0)
	b.ret(action)
}

// block runs body only if the comparison holds. A body that does not end everywhere falls through with its own
// accumulator, so only call may use such a body.
func (b *builder) block(comparison uint16, k uint32, body func()) {
	at := len(b.program)
	b.add(unix.BPF_JMP|comparison|unix.BPF_K, k, 0, 0)
	body()
	length := len(b.program) - at - 1
	if length > 255 {
		panic("seccomp: a block is longer than a jump")
	}
	b.program[at].Jf = uint8(length)
}

// call runs body for one system call and allows it if body does not end otherwise.
func (b *builder) call(number uint32, body func()) {
	b.block(unix.BPF_JEQ, number, func() {
		body()
		b.ret(allow)
	})
}
