package artifacts

import (
	"bytes"
	"encoding/binary"
	"errors"

	"golang.org/x/sys/unix"

	"crucible.dev/launcher/internal/glob"
)

// level is the memory of one depth of the walk, reused by every directory at that depth.
type level struct {
	states  []glob.State
	entries []byte
}

func (c *Collector) walkRoot(root int) {
	fd, err := c.open(root, ".", unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		c.refuse(c.here(), "cannot be opened: "+err.Error())
		return
	}
	defer unix.Close(fd)
	states := make([]glob.State, len(c.Patterns))
	for i, pattern := range c.Patterns {
		states[i] = pattern.Start()
	}
	c.levels[0].states = states
	c.walk(fd, 0)
}

// walk visits the entries of an open directory whose pattern states are those of its level.
func (c *Collector) walk(fd, depth int) {
	here := &c.levels[depth]
	if here.entries == nil {
		here.entries = make([]byte, direntBytes)
	}
	base := len(c.path)
	for !c.stopped {
		n, err := unix.ReadDirent(fd, here.entries)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			c.refuse(c.here(), "cannot be listed: "+err.Error())
			return
		}
		if n <= 0 {
			return
		}
		for rest := here.entries[:n]; len(rest) > 0 && !c.stopped; {
			var name []byte
			name, rest = nextEntry(rest)
			if name != nil {
				c.entry(fd, depth, name)
				c.path = c.path[:base]
			}
		}
	}
}

// nextEntry reads a struct linux_dirent64: inode, offset, length of the record, type, name.
func nextEntry(data []byte) (name, rest []byte) {
	const header = 19
	if len(data) < header {
		return nil, nil
	}
	length := int(binary.NativeEndian.Uint16(data[16:]))
	if length < header || length > len(data) {
		return nil, nil
	}
	name, rest = data[header:length], data[length:]
	if end := bytes.IndexByte(name, 0); end >= 0 {
		name = name[:end]
	}
	if len(name) == 0 || string(name) == "." || string(name) == ".." || binary.NativeEndian.Uint64(data) == 0 {
		return nil, rest
	}
	return name, rest
}

func (c *Collector) entry(directory, depth int, raw []byte) {
	if c.entries++; c.entries > MaxEntries {
		c.stop("the working directory has more entries than are looked at")
		return
	}
	if c.entries%checkEvery == 0 && c.Expired() {
		c.stop("no time was left to look further")
		return
	}
	name := string(raw)
	matched, literal, open := c.step(depth, name)
	if !matched && !open {
		return
	}
	if len(c.path) > 0 {
		c.path = append(c.path, '/')
	}
	c.path = append(c.path, name...)
	var stat unix.Stat_t
	if err := unix.Fstatat(directory, name, &stat, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		c.refuse(c.path, "cannot be examined: "+err.Error())
		return
	}
	kind := stat.Mode & unix.S_IFMT
	switch {
	case kind == unix.S_IFDIR && open:
		c.directory(directory, depth, name, &stat)
	case kind == unix.S_IFDIR && literal:
		c.refuse(c.path, "directory: add /** to the pattern to send what is in it")
	case kind == unix.S_IFLNK && c.asked(depth, name):
		c.refuse(c.path, kindName(kind))
	case kind == unix.S_IFDIR || !matched:
	case !safeName(raw):
		c.refuse(c.path, "its name is not plain UTF-8 text")
	case len(c.path) > maxPathBytes:
		c.refuse(c.path, "its path is too long")
	case kind == unix.S_IFREG:
		c.file(directory, name, &stat)
	default:
		c.refuse(c.path, kindName(kind))
	}
}

func (c *Collector) directory(parent, depth int, name string, stat *unix.Stat_t) {
	switch {
	case !safeName([]byte(name)):
		c.refuse(c.path, "its name is not plain UTF-8 text")
		return
	case len(c.path) > maxPathBytes:
		c.refuse(c.path, "its path is too long")
		return
	case depth+1 > maxDepth:
		c.refuse(c.path, "nested too deeply")
		return
	case stat.Dev != c.device:
		c.refuse(c.path, "another file system")
		return
	}
	fd, err := c.open(parent, name, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		c.refuse(c.path, "cannot be opened: "+err.Error())
		return
	}
	defer unix.Close(fd)
	c.walk(fd, depth+1)
}

// step advances the states of a level by a name into those of the next one. literal tells that a pattern names exactly
// this entry.
func (c *Collector) step(depth int, name string) (matched, literal, open bool) {
	var scratch level
	next := &scratch // below the deepest level nothing is looked at, but what is there is still refused
	if depth < maxDepth {
		next = &c.levels[depth+1]
	}
	if next.states == nil {
		next.states = make([]glob.State, len(c.Patterns))
	}
	for i, pattern := range c.Patterns {
		state := pattern.Step(c.levels[depth].states[i], name)
		next.states[i] = state
		if pattern.Matched(state) {
			matched = true
			literal = literal || pattern.Literal()
		}
		open = open || pattern.Open(state)
	}
	return matched, literal, open
}

// asked tells whether a pattern names this entry as a directory to look into. Links that only ** would look into are
// passed over: most trees of packages have many.
func (c *Collector) asked(depth int, name string) bool {
	for i, pattern := range c.Patterns {
		if pattern.Names(c.levels[depth].states[i], name) {
			return true
		}
	}
	return false
}

// open opens one name in a directory and nothing a link leads to.
func (c *Collector) open(directory int, name string, flags int) (int, error) {
	flags |= unix.O_NOFOLLOW | unix.O_CLOEXEC
	if !c.noOpenat2 {
		how := unix.OpenHow{Flags: uint64(flags), Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV}
		fd, err := retry(func() (int, error) { return unix.Openat2(directory, name, &how) })
		if !errors.Is(err, unix.ENOSYS) && !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EINVAL) {
			return fd, err
		}
		// Not there under gVisor. A name is a single component, so O_NOFOLLOW alone keeps within the directory too.
		c.noOpenat2 = true
	}
	return retry(func() (int, error) { return unix.Openat(directory, name, flags, 0) })
}

func retry(call func() (int, error)) (int, error) {
	for {
		fd, err := call()
		if !errors.Is(err, unix.EINTR) {
			return fd, err
		}
	}
}

func kindName(kind uint32) string {
	switch kind {
	case unix.S_IFLNK:
		return "symbolic link"
	case unix.S_IFIFO:
		return "named pipe"
	case unix.S_IFSOCK:
		return "socket"
	case unix.S_IFCHR, unix.S_IFBLK:
		return "device"
	}
	return "not a regular file"
}
