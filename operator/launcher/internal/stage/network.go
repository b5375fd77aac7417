package stage

import (
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// connectTime bounds what connecting may add to a start. Whoever lets connections through answers sooner.
const connectTime = 30 * time.Millisecond

// selfTarget is a port of the sandbox itself at which nothing listens: refusal shows that connecting works at all.
const selfTarget = "127.0.0.1:9"

// Connection is an attempt to connect.
type Connection struct {
	Target string `json:"target"`
	// Result is "connected", "noAnswer" within WaitedMilliseconds, or the error.
	Result             string `json:"result"`
	WaitedMilliseconds int64  `json:"waitedMilliseconds"`
}

type connections struct {
	began time.Time
	list  []Connection
	fds   []int // -1 when the result is known
}

// connect begins to connect to a port of the sandbox itself and to the API server, if its address is known.
func connect(apiServer string) *connections {
	c := &connections{began: time.Now()}
	c.begin(selfTarget)
	if apiServer != "" {
		c.begin(apiServer)
	}
	return c
}

func (c *connections) begin(target string) {
	fd, result := -1, ""
	if address, err := netip.ParseAddrPort(target); err != nil {
		result = "not an address and a port"
	} else {
		fd, result = dial(address)
	}
	c.list, c.fds = append(c.list, Connection{Target: clip(target), Result: result}), append(c.fds, fd)
}

func dial(address netip.AddrPort) (fd int, result string) {
	family, to := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Port: int(address.Port()), Addr: address.Addr().As16()})
	if address.Addr().Unmap().Is4() {
		family, to = unix.AF_INET, &unix.SockaddrInet4{Port: int(address.Port()), Addr: address.Addr().Unmap().As4()}
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, name(err)
	}
	if err = unix.Connect(fd, to); err == unix.EINPROGRESS {
		return fd, ""
	}
	unix.Close(fd)
	return -1, name(err)
}

// results waits for what has not been answered yet.
func (c *connections) results() []Connection {
	for i, fd := range c.fds {
		if fd < 0 {
			continue
		}
		connection := &c.list[i]
		connection.Result = "noAnswer"
		if answered(fd, c.began.Add(connectTime)) {
			value, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
			if err == nil && value != 0 {
				err = unix.Errno(value)
			}
			connection.Result = name(err)
		}
		connection.WaitedMilliseconds = time.Since(c.began).Milliseconds()
		unix.Close(fd)
	}
	return c.list
}

// answered waits until the connection is made or refused, or the time is over.
func answered(fd int, until time.Time) bool {
	for {
		wait := max(time.Until(until), 0)
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
		n, err := unix.Poll(fds, int((wait+time.Millisecond-1)/time.Millisecond))
		if err != unix.EINTR {
			return n > 0
		}
	}
}

func name(err error) string {
	if err == nil {
		return "connected"
	}
	if errno, ok := err.(unix.Errno); ok {
		return unix.ErrnoName(errno)
	}
	return err.Error()
}
