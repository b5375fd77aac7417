// Package glob matches relative paths against patterns such as out/**/*.json. Patterns and names may be hostile, so a
// match costs at most the product of their lengths: no recursion, no backtracking over segments.
package glob

import (
	"errors"
	"strings"
	"unicode/utf8"
)

const (
	maxPatternBytes = 1024
	maxSegments     = 60 // a State is one bit per segment and one for the end
	anyDepth        = "**"
)

// Pattern is a compiled pattern. In a segment, * matches any bytes, ? one character, [a-z] and [!a-z] a class, and a
// backslash quotes what follows. A segment of ** matches any number of directories; at the end it matches every file
// below. Names that begin with a dot are names like any other.
type Pattern struct {
	segments []string
	literal  bool
}

// State is the set of positions in a pattern that a path has reached. The zero State can match nothing any more.
type State uint64

// Compile checks a pattern: relative, without . or .. segments.
func Compile(pattern string) (*Pattern, error) {
	if pattern == "" || len(pattern) > maxPatternBytes {
		return nil, errors.New("a pattern has 1 to 1024 bytes")
	}
	if !utf8.ValidString(pattern) || strings.IndexByte(pattern, 0) >= 0 {
		return nil, errors.New("a pattern is valid UTF-8 without NUL")
	}
	if pattern[0] == '/' {
		return nil, errors.New("a pattern is relative to the working directory")
	}
	compiled := &Pattern{}
	for _, segment := range strings.Split(strings.TrimPrefix(pattern, "./"), "/") {
		switch {
		case segment == "" || segment == "." || segment == "..":
			return nil, errors.New("a pattern has no empty, . or .. segments")
		case segment == anyDepth && len(compiled.segments) > 0 && compiled.segments[len(compiled.segments)-1] == anyDepth:
			continue
		}
		if err := checkSegment(segment); err != nil {
			return nil, err
		}
		compiled.segments = append(compiled.segments, segment)
	}
	last := compiled.segments[len(compiled.segments)-1]
	if last == anyDepth {
		compiled.segments = append(compiled.segments, "*")
	}
	compiled.literal = !strings.ContainsAny(last, `*?[\`)
	if len(compiled.segments) > maxSegments {
		return nil, errors.New("a pattern has at most 60 segments")
	}
	return compiled, nil
}

// Literal tells whether the last segment names one file rather than many.
func (p *Pattern) Literal() bool { return p.literal }

// Start is the state before the first segment of a path.
func (p *Pattern) Start() State { return p.close(1) }

// Step advances by one segment of a path.
func (p *Pattern) Step(state State, name string) State {
	next := State(0)
	for i, segment := range p.segments {
		if state&(1<<i) == 0 {
			continue
		}
		if segment == anyDepth {
			next |= 1 << i
		} else if matchSegment(segment, name) {
			next |= 1 << (i + 1)
		}
	}
	return p.close(next)
}

// Names tells whether a segment other than ** takes this name.
func (p *Pattern) Names(state State, name string) bool {
	for i, segment := range p.segments {
		if state&(1<<i) != 0 && segment != anyDepth && matchSegment(segment, name) {
			return true
		}
	}
	return false
}

// Matched tells whether the path so far is a match.
func (p *Pattern) Matched(state State) bool { return state&(1<<len(p.segments)) != 0 }

// Open tells whether a longer path may match.
func (p *Pattern) Open(state State) bool { return state&(1<<len(p.segments)-1) != 0 }

// Match matches a whole path.
func (p *Pattern) Match(path string) bool {
	state := p.Start()
	for _, name := range strings.Split(path, "/") {
		state = p.Step(state, name)
	}
	return p.Matched(state)
}

// close adds the positions that are reached without consuming a segment: ** may stand for no directory at all.
func (p *Pattern) close(state State) State {
	for i, segment := range p.segments {
		if segment == anyDepth && state&(1<<i) != 0 {
			state |= 1 << (i + 1)
		}
	}
	return state
}

// matchSegment goes back only to the last star, which is enough because a star can take any bytes.
func matchSegment(pattern, name string) bool {
	p, n, starP, starN := 0, 0, -1, 0
	for n < len(name) {
		if p < len(pattern) && pattern[p] == '*' {
			starP, starN = p, n
			p++
			continue
		}
		if patternWidth, nameWidth := matchOne(pattern[p:], name[n:]); nameWidth > 0 {
			p += patternWidth
			n += nameWidth
			continue
		}
		if starP < 0 {
			return false
		}
		starN++
		p, n = starP+1, starN
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}

// matchOne matches one element that is not a star and returns how much of both it took; a width of 0 is no match.
func matchOne(pattern, name string) (patternWidth, nameWidth int) {
	if pattern == "" {
		return 0, 0
	}
	_, width := utf8.DecodeRuneInString(name)
	switch pattern[0] {
	case '?':
		return 1, width
	case '[':
		matched, end, err := matchClass(pattern, name)
		if err != nil || !matched {
			return 0, 0
		}
		return end, width
	case '\\':
		if len(pattern) > 1 && pattern[1] == name[0] {
			return 2, 1
		}
		return 0, 0
	}
	if pattern[0] == name[0] {
		return 1, 1
	}
	return 0, 0
}

var errClass = errors.New("a character class is not closed or is empty")

// matchClass reads the class at the start of pattern; end is its length.
func matchClass(pattern, name string) (matched bool, end int, err error) {
	char, _ := utf8.DecodeRuneInString(name)
	rest := pattern[1:]
	negated := strings.HasPrefix(rest, "!") || strings.HasPrefix(rest, "^")
	if negated {
		rest = rest[1:]
	}
	for first := true; first || !strings.HasPrefix(rest, "]"); first = false {
		var low, high rune
		if low, rest, err = classChar(rest); err != nil {
			return false, 0, err
		}
		high = low
		if strings.HasPrefix(rest, "-") && !strings.HasPrefix(rest, "-]") {
			if high, rest, err = classChar(rest[1:]); err != nil {
				return false, 0, err
			}
		}
		if low <= char && char <= high {
			matched = true
		}
	}
	return matched != negated, len(pattern) - len(rest) + 1, nil
}

func classChar(text string) (rune, string, error) {
	if strings.HasPrefix(text, `\`) {
		text = text[1:]
	}
	if text == "" {
		return 0, "", errClass
	}
	char, width := utf8.DecodeRuneInString(text)
	return char, text[width:], nil
}

func checkSegment(segment string) error {
	for i := 0; i < len(segment); {
		switch segment[i] {
		case '[':
			_, end, err := matchClass(segment[i:], "")
			if err != nil {
				return err
			}
			i += end
		case '\\':
			if i+1 == len(segment) {
				return errors.New("a backslash quotes nothing")
			}
			i += 2
		default:
			i++
		}
	}
	return nil
}
