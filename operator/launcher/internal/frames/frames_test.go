package frames

import (
	"bytes"
	"encoding/json"
	"math/rand"
	"strconv"
	"strings"
	"testing"
)

// decoded is what a reader makes of frames.
type decoded struct {
	streams map[byte][]byte
	frames  int
	charged int64
	largest int
}

func decode(t *testing.T, data []byte) decoded {
	t.Helper()
	d := decoded{streams: map[byte][]byte{}}
	for len(data) > 0 {
		line, rest, found := bytes.Cut(data, []byte{'\n'})
		if !found {
			t.Fatalf("no line feed after %.80q", data)
		}
		data = rest
		d.frames++
		d.charged += int64(len(line)) + 1 + LineCharge
		d.largest = max(d.largest, len(line)+1)
		head := strconv.Itoa(d.frames) + " "
		if !bytes.HasPrefix(line, []byte(head)) || len(line) < len(head)+2 {
			t.Fatalf("frame %d is %.80q", d.frames, line)
		}
		// As containerd's log writer does with every line.
		line = bytes.TrimSuffix(line, []byte{'\r'})
		kind, mark, text := line[len(head)], line[len(head)+1], line[len(head)+2:]
		if mark == GuardedNewline || mark == GuardedNoNewline {
			if !bytes.HasSuffix(text, []byte{Guard}) {
				t.Fatalf("frame %d lacks its guard: %.80q", d.frames, line)
			}
			text, mark = text[:len(text)-1], map[byte]byte{GuardedNewline: Newline, GuardedNoNewline: NoNewline}[mark]
		}
		d.streams[kind] = append(d.streams[kind], text...)
		if mark == Newline {
			d.streams[kind] = append(d.streams[kind], '\n')
		} else if mark != NoNewline {
			t.Fatalf("frame %d has mark %q", d.frames, mark)
		}
	}
	return d
}

// check writes pieces alternately to both streams under caps and verifies everything a reader relies on.
func check(t *testing.T, out, err []byte, seed int64, maxStream, maxEmitted int64) {
	t.Helper()
	random := rand.New(rand.NewSource(seed))
	emitter := NewEmitter(maxEmitted)
	alone := (maxEmitted - SummaryRoom) / 4 * 3
	streams := [2]*Stream{
		NewStream(emitter, Stdout, maxStream, alone, SummaryRoom), NewStream(emitter, Stderr, maxStream, alone, SummaryRoom),
	}
	left := [2][]byte{out, err}
	for len(left[0])+len(left[1]) > 0 {
		which := random.Intn(2)
		n := min(len(left[which]), 1+random.Intn(20000))
		streams[which].Write(left[which][:n])
		left[which] = left[which][n:]
		if random.Intn(8) == 0 {
			streams[which].Flush()
		}
	}
	report := &Report{Reason: Exited, Error: strings.Repeat("\x00é", 4000)}
	for _, stream := range streams {
		stream.Flush()
	}
	report.Stdout, report.Stderr = streams[0].Stats, streams[1].Stats
	if !EmitReport(emitter, report) {
		t.Fatal("the summary does not fit")
	}
	got := decode(t, emitter.Pending)
	if got.charged != emitter.Used() || got.charged > maxEmitted || got.largest >= 16<<10 {
		t.Fatalf("charged %d, accounted %d, allowed %d, largest %d", got.charged, emitter.Used(), maxEmitted, got.largest)
	}
	for i, written := range [2][]byte{out, err} {
		stats, text := streams[i].Stats, got.streams["oe"[i]]
		if !bytes.Equal(text, written[:min(len(text), len(written))]) || int64(len(text)) != stats.Emitted {
			t.Fatalf("stream %d: %d bytes read, %d accounted, not a beginning of the %d written", i, len(text), stats.Emitted, len(written))
		}
		if stats.Truncated != (len(text) < len(written)) || stats.Bytes != int64(len(written)) ||
			stats.Lines != int64(bytes.Count(written, []byte{'\n'})) || stats.Emitted > maxStream {
			t.Fatalf("stream %d: %+v of %d bytes", i, stats, len(written))
		}
		generous := maxStream >= int64(len(written)) && maxEmitted >= 80*int64(len(out)+len(err))+1<<20
		if generous && stats.Truncated {
			t.Fatalf("stream %d was truncated without need: %+v", i, stats)
		}
	}
	if !json.Valid(bytes.TrimSuffix(got.streams[Summary], []byte{'\n'})) {
		t.Fatalf("summary %q", got.streams[Summary])
	}
}

func TestEveryStreamIsABeginningOfWhatWasWritten(t *testing.T) {
	for seed := int64(0); seed < 300; seed++ {
		random := rand.New(rand.NewSource(seed))
		data := func() []byte {
			bytes := make([]byte, random.Intn(60000))
			random.Read(bytes)
			if every := random.Intn(4); every > 0 { // from many line feeds to none at all
				for i := range bytes {
					if random.Intn(1+every*every*every*50) == 0 {
						bytes[i] = '\n'
						if i > 0 && random.Intn(2) == 0 {
							bytes[i-1] = '\r'
						}
					} else if every == 3 && bytes[i] == '\n' {
						bytes[i] = 0
					}
				}
			}
			return bytes
		}
		check(t, data(), data(), seed, int64(random.Intn(70000)), 8192+int64(random.Intn(1<<20)))
		check(t, data(), data(), seed, 1<<20, 64<<20)
	}
}

func TestLongLinesAreCut(t *testing.T) {
	for length, frames := range map[int]string{
		MaxText - 1: "|", MaxText: "|", MaxText + 1: "+|", 2 * MaxText: "+|", 40000: "++++|", 0: "|",
	} {
		emitter := NewEmitter(1 << 20)
		stream := NewStream(emitter, Stdout, 1<<20, 1<<20, 0)
		stream.Write(append(bytes.Repeat([]byte{'x'}, length), '\n'))
		marks := ""
		for _, line := range bytes.Split(bytes.TrimSuffix(emitter.Pending, []byte{'\n'}), []byte{'\n'}) {
			marks += string(line[3])
		}
		if marks != frames {
			t.Errorf("%d bytes: %q, want %q", length, marks, frames)
		}
	}
}

func TestCarriageReturnsSurviveTheRuntime(t *testing.T) {
	for _, written := range []string{"a\r\nb\r\n", "\r\n", "\r", "a\r\r\r\n\r", "a\rb\n", strings.Repeat("x", MaxText-1) + "\r" + "y\n", strings.Repeat("\r", 3*MaxText)} {
		emitter := NewEmitter(1 << 20)
		stream := NewStream(emitter, Stdout, 1<<20, 1<<20, 0)
		stream.Write([]byte(written))
		stream.Flush()
		if got := decode(t, emitter.Pending).streams[Stdout]; string(got) != written {
			t.Errorf("%.40q came back as %.40q", written, got)
		}
	}
}

func TestOneStreamCannotTakeEverything(t *testing.T) {
	emitter := NewEmitter(100_000)
	out := NewStream(emitter, Stdout, 1<<20, 75_000, SummaryRoom)
	err := NewStream(emitter, Stderr, 1<<20, 75_000, SummaryRoom)
	out.Write(bytes.Repeat([]byte{'\n'}, 100_000))
	err.Write([]byte("still heard\n"))
	if !out.Stats.Truncated || err.Stats.Truncated || err.Stats.Emitted != 12 {
		t.Errorf("stdout %+v, stderr %+v", out.Stats, err.Stats)
	}
}

func FuzzStream(f *testing.F) {
	f.Add([]byte("a\nb"), []byte("\n\n"), int64(1), int64(100), int64(20000))
	f.Fuzz(func(t *testing.T, out, err []byte, seed, maxStream, maxEmitted int64) {
		if maxStream < 0 || maxEmitted < 8192 || maxEmitted > 1<<40 {
			t.Skip()
		}
		check(t, out, err, seed, maxStream, maxEmitted)
	})
}

func BenchmarkStream(b *testing.B) {
	data := bytes.Repeat([]byte("the quick brown fox jumps over the lazy dog, twice, and then once more\n"), 200)
	emitter := NewEmitter(1 << 60)
	stream := NewStream(emitter, Stdout, 1<<60, 1<<60, 0)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		stream.Write(data)
		emitter.Pending = emitter.Pending[:0]
	}
}
