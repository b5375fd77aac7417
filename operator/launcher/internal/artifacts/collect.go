// Package artifacts sends the files that the code left behind. Everything below the root is hostile: the code chose each
// name, type and size, and had all the time it wanted to prepare them. It has ended when this runs, but nothing here
// relies on that: no link is followed, nothing but a regular file is read, and the work is bounded whatever is there.
package artifacts

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io"
	"strconv"

	"golang.org/x/sys/unix"

	"crucible.dev/launcher/internal/frames"
	"crucible.dev/launcher/internal/glob"
)

const (
	chunkBytes = frames.MaxText / 4 * 3 // 8 KiB as base64
	// MaxEntries bounds the walk: a million names cost no more than this many.
	MaxEntries = 200_000
	maxDepth   = 32
	// A path escaped in JSON stays below a frame's limit beside a chunk.
	maxPathBytes = 1024
	// What is refused beyond these is counted only.
	maxRefusalFrames = 100
	// EndRoom always stays free for the closing frame.
	EndRoom     = 256
	flushAbove  = 32 << 10
	checkEvery  = 64 // entries between looks at the clock
	direntBytes = 4 << 10
)

// Collector sends the files below one directory that match a pattern.
type Collector struct {
	Emitter  *frames.Emitter
	Patterns []*glob.Pattern
	MaxBytes int64
	MaxFiles int64
	// Flush writes what is pending; Expired tells that no time is left.
	Flush   func()
	Expired func() bool

	stats     frames.ArtifactStats
	files     int64
	entries   int
	refusals  int
	stopped   bool
	device    uint64
	noOpenat2 bool
	path      []byte
	text      []byte
	chunk     []byte
	levels    [maxDepth + 1]level
}

// Run sends the files below the directory that root refers to, and the closing frame.
func (c *Collector) Run(root int) frames.ArtifactStats {
	c.stats.Complete = true
	c.chunk = make([]byte, chunkBytes)
	var stat unix.Stat_t
	if err := unix.Fstat(root, &stat); err != nil {
		c.refuse([]byte("."), "the working directory is gone: "+err.Error())
	} else {
		c.device = stat.Dev
		c.walkRoot(root)
	}
	c.end()
	return c.stats
}

func (c *Collector) keep() int64 { return frames.SummaryRoom + EndRoom }

func (c *Collector) emit(keep int64) bool {
	sent := c.Emitter.Emit(frames.Artifact, frames.Newline, c.text, keep)
	if len(c.Emitter.Pending) > flushAbove {
		c.Flush()
	}
	return sent
}

func (c *Collector) end() {
	c.text = append(c.text[:0], `{"end":true`...)
	c.text = appendField(c.text, "count", c.stats.Count)
	c.text = appendField(c.text, "bytes", c.stats.Bytes)
	c.text = append(c.text, `,"complete":`...)
	c.text = strconv.AppendBool(c.text, c.stats.Complete)
	c.text = appendField(c.text, "refused", c.stats.Refused)
	c.text = append(c.text, '}')
	c.emit(frames.SummaryRoom)
}

func (c *Collector) refuse(path []byte, reason string) {
	c.stats.Complete = false
	c.stats.Refused++
	if c.refusals++; c.refusals > maxRefusalFrames {
		return
	}
	c.text = append(c.text[:0], `{"path":`...)
	c.text = appendPath(c.text, path[:min(len(path), maxPathBytes)])
	c.text = append(c.text, `,"refused":`...)
	c.text = appendPath(c.text, []byte(reason)) // a JSON string like any other
	c.text = append(c.text, '}')
	c.emit(c.keep())
}

// stop ends the walk: what comes after it is unknown, so nothing is complete.
func (c *Collector) stop(reason string) {
	if !c.stopped {
		c.stopped = true
		c.refuse(c.here(), reason)
	}
}

func (c *Collector) here() []byte {
	if len(c.path) == 0 {
		return []byte(".")
	}
	return c.path
}

// file sends the regular file that the directory holds under this name. expected is what the walk saw.
func (c *Collector) file(directory int, name string, expected *unix.Stat_t) {
	if reason := c.refusal(expected); reason != "" {
		c.refuse(c.path, reason)
		return
	}
	// Not blocking: should it have become a FIFO or a device since, opening must not wait for anybody.
	fd, err := c.open(directory, name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY)
	if err != nil {
		c.refuse(c.path, "cannot be opened: "+err.Error())
		return
	}
	defer unix.Close(fd)
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		c.refuse(c.path, "cannot be examined: "+err.Error())
		return
	}
	if stat.Ino != expected.Ino || stat.Dev != expected.Dev || stat.Mode&unix.S_IFMT != unix.S_IFREG || stat.Nlink > 1 {
		c.refuse(c.path, "was replaced while it was collected")
		return
	}
	if reason := c.refusal(&stat); reason != "" {
		c.refuse(c.path, reason)
		return
	}
	c.send(fd, &stat)
}

func (c *Collector) refusal(stat *unix.Stat_t) string {
	switch {
	case stat.Nlink > 1:
		return "hard link"
	case c.stats.Count >= c.MaxFiles:
		return "more than maxFiles files"
	case stat.Size > c.MaxBytes-c.stats.Bytes:
		return "larger than what is left of maxBytes"
	case c.cost(stat.Size) > c.Emitter.Room(c.keep()):
		return "larger than what is left of maxEmittedBytes"
	}
	return ""
}

// cost is an upper bound of what sending a file of this size takes.
func (c *Collector) cost(size int64) int64 {
	fixed := 2*len(c.path) + 128
	perChunk := c.Emitter.Cost(fixed + frames.MaxText + 8)
	return (size+chunkBytes-1)/chunkBytes*perChunk + c.Emitter.Cost(fixed+128)
}

func (c *Collector) send(fd int, stat *unix.Stat_t) {
	index := c.files
	c.files++
	hash := sha256.New()
	for left := stat.Size; left > 0; {
		want := min(left, chunkBytes)
		if _, err := io.ReadFull(reader(fd), c.chunk[:want]); err != nil {
			c.refuse(c.path, "could not be read to its end: "+err.Error())
			return
		}
		hash.Write(c.chunk[:want])
		left -= want
		c.begin(index)
		c.text = append(c.text, `,"chunk":"`...)
		c.text = base64.StdEncoding.AppendEncode(c.text, c.chunk[:want])
		c.text = append(c.text, `"}`...)
		if !c.emit(c.keep()) {
			c.refuse(c.path, "larger than what is left of maxEmittedBytes")
			return
		}
		if left > 0 && c.Expired() {
			c.stop("no time was left to send it")
			return
		}
	}
	if n, _ := unix.Read(fd, c.chunk[:1]); n > 0 {
		c.refuse(c.path, "grew while it was read")
		return
	}
	c.begin(index)
	c.text = appendField(c.text, "size", stat.Size)
	c.text = append(c.text, `,"sha256":"`...)
	c.text = hex.AppendEncode(c.text, hash.Sum(nil))
	c.text = append(c.text, `","mode":"0`...)
	c.text = strconv.AppendUint(c.text, uint64(stat.Mode&0o777), 8)
	c.text = append(c.text, `","done":true}`...)
	if !c.emit(c.keep()) {
		c.refuse(c.path, "larger than what is left of maxEmittedBytes")
		return
	}
	c.stats.Count++
	c.stats.Bytes += stat.Size
}

func (c *Collector) begin(index int64) {
	c.text = append(c.text[:0], `{"path":`...)
	c.text = appendPath(c.text, c.path)
	c.text = appendField(c.text, "index", index)
}

// reader is a file descriptor as an io.Reader.
type reader int

func (r reader) Read(data []byte) (int, error) {
	for {
		n, err := unix.Read(int(r), data)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return 0, err
		case n == 0:
			return 0, io.EOF
		default:
			return n, nil
		}
	}
}
