package frames

import "bytes"

// StreamStats is what the summary says about a stream.
type StreamStats struct {
	Bytes     int64 `json:"bytes"`     // produced by the program
	Emitted   int64 `json:"emitted"`   // of these, sent on; always the first ones
	Lines     int64 `json:"lines"`     // line feeds produced
	Truncated bool  `json:"truncated"` // Emitted < Bytes
}

// Stream cuts one output of the program into frames. What it emits is always a prefix of what was written.
type Stream struct {
	Stats   StreamStats
	emitter *Emitter
	kind    byte
	// maxBytes bounds the content, maxCost the frames of this stream alone; keep stays free for others.
	maxBytes, maxCost, keep int64
	cost                    int64
	line                    []byte // begun and not yet emitted
}

// NewStream makes a stream of at most maxBytes of content whose frames cost at most maxCost and leave keep bytes of the
// emitter's budget free.
func NewStream(emitter *Emitter, kind byte, maxBytes, maxCost, keep int64) *Stream {
	return &Stream{emitter: emitter, kind: kind, maxBytes: maxBytes, maxCost: maxCost, keep: keep, line: make([]byte, 0, MaxText+1)}
}

// Write takes the next bytes of the program.
func (s *Stream) Write(data []byte) {
	s.Stats.Bytes += int64(len(data))
	s.Stats.Lines += int64(bytes.Count(data, []byte{'\n'}))
	for len(data) > 0 && !s.Stats.Truncated {
		end := bytes.IndexByte(data, '\n')
		segment := data
		if end >= 0 {
			segment = data[:end]
		}
		s.text(segment)
		data = data[len(segment):]
		if end >= 0 {
			data = data[1:]
			s.emit(Newline)
		}
	}
}

// Flush emits a line that was begun, without its newline.
func (s *Stream) Flush() {
	if len(s.line) > 0 && !s.Stats.Truncated {
		s.emit(NoNewline)
	}
}

// Waiting tells whether a line was begun and not emitted.
func (s *Stream) Waiting() bool { return len(s.line) > 0 && !s.Stats.Truncated }

func (s *Stream) text(segment []byte) {
	for len(segment) > 0 && !s.Stats.Truncated {
		if len(s.line) == MaxText { // and more follows, so the line is too long for one frame
			s.emit(NoNewline)
			continue
		}
		n := min(len(segment), MaxText-len(s.line))
		s.line = append(s.line, segment[:n]...)
		segment = segment[n:]
	}
}

func (s *Stream) emit(mark byte) {
	text, content := s.line, int64(len(s.line))
	if mark == Newline {
		content++
	}
	s.line = s.line[:0]
	if room := s.maxBytes - s.Stats.Emitted; content > room {
		s.Stats.Truncated = true
		mark, content = NoNewline, min(room, int64(len(text)))
		text = text[:content]
		if content == 0 {
			return
		}
	}
	mark, text = guard(mark, text)
	cost := s.emitter.Cost(len(text))
	if s.cost+cost > s.maxCost || !s.emitter.Emit(s.kind, mark, text, s.keep) {
		s.Stats.Truncated = true
		return
	}
	s.cost += cost
	s.Stats.Emitted += content
}

// guard keeps a carriage return away from the end of the line: containerd's log writer takes it for a part of the line's
// end and drops it.
func guard(mark byte, text []byte) (byte, []byte) {
	if !bytes.HasSuffix(text, []byte{'\r'}) {
		return mark, text
	}
	if mark == Newline {
		return GuardedNewline, append(text, Guard)
	}
	return GuardedNoNewline, append(text, Guard)
}
