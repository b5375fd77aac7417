// Package frames writes the launcher's output protocol: numbered lines within a budget. It never writes by itself; the
// bytes wait in Pending until the event loop can write them without blocking.
package frames

import "strconv"

// Kinds of frames.
const (
	Stdout   = 'o'
	Stderr   = 'e'
	Artifact = 'a'
	Receipt  = 'r'
	Summary  = 's'
)

// Marks: whether the newline that ends the frame is the program's own. The guarded ones say that the last byte of the
// text is Guard and not the program's: container runtimes drop a carriage return at the end of a line.
const (
	Newline          = '|'
	NoNewline        = '+'
	GuardedNewline   = '!'
	GuardedNoNewline = '?'
	Guard            = '.'
)

const (
	// MaxText keeps every frame of output far below 16 KiB, where container runtimes split a line.
	MaxText = 8 << 10
	// LineCharge is what the container runtime writes around each line of the log file.
	LineCharge = 64
	// SummaryRoom always stays free for the last frame: its text, its number and its charge.
	SummaryRoom = MaxSummary + 128
	// MaxSummary bounds the text of the summary.
	MaxSummary = 2 << 10
)

// Emitter numbers frames and charges them to one budget.
type Emitter struct {
	Pending []byte
	seq     int64
	used    int64
	max     int64
}

// NewEmitter makes an emitter for at most max bytes, charges included.
func NewEmitter(max int64) *Emitter { return &Emitter{max: max} }

// Used is the number of bytes emitted so far, charges included.
func (e *Emitter) Used() int64 { return e.used }

// Cost of one frame with a text of so many bytes.
func (e *Emitter) Cost(text int) int64 {
	return int64(digits(e.seq+1)+len(" o|")+text+len("\n")) + LineCharge
}

// Emit appends a frame if it leaves keep bytes of the budget free, and tells whether it did. The text must not contain
// a line feed.
func (e *Emitter) Emit(kind, mark byte, text []byte, keep int64) bool {
	cost := e.Cost(len(text))
	if e.used+cost+keep > e.max {
		return false
	}
	e.used += cost
	e.seq++
	e.Pending = strconv.AppendInt(e.Pending, e.seq, 10)
	e.Pending = append(e.Pending, ' ', kind, mark)
	e.Pending = append(e.Pending, text...)
	e.Pending = append(e.Pending, '\n')
	return true
}

// Room is what may still be used when keep bytes must stay free.
func (e *Emitter) Room(keep int64) int64 { return e.max - e.used - keep }

func digits(n int64) int {
	count := 1
	for ; n >= 10; n /= 10 {
		count++
	}
	return count
}
