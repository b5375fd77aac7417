package artifacts

import (
	"strconv"
	"unicode/utf8"
)

const hexDigits = "0123456789abcdef"

// unsafe runes change how a name is displayed or cannot be told apart by eye: control characters, marks of direction,
// separators of lines, invisible characters.
func unsafe(r rune, width int) bool {
	switch {
	case r == utf8.RuneError && width <= 1:
		return true
	case r < 0x20, r >= 0x7f && r <= 0x9f:
		return true
	case r >= 0x200b && r <= 0x200f, r >= 0x2028 && r <= 0x202e, r >= 0x2060 && r <= 0x206f, r == 0xfeff:
		return true
	}
	return false
}

func safeName(name []byte) bool {
	for len(name) > 0 {
		r, width := utf8.DecodeRune(name)
		if unsafe(r, width) {
			return false
		}
		name = name[width:]
	}
	return true
}

// appendPath appends path as a JSON string. Bytes that are not safe appear as \xNN in it, as text: such a path is shown
// and never sent as the path of a file.
func appendPath(out, path []byte) []byte {
	out = append(out, '"')
	for len(path) > 0 {
		r, width := utf8.DecodeRune(path)
		switch {
		case unsafe(r, width):
			for _, b := range path[:width] {
				out = append(out, '\\', '\\', 'x', hexDigits[b>>4], hexDigits[b&15])
			}
		case r == '"' || r == '\\':
			out = append(out, '\\', byte(r))
		default:
			out = append(out, path[:width]...)
		}
		path = path[width:]
	}
	return append(out, '"')
}

func appendField(out []byte, name string, value int64) []byte {
	out = append(out, ',', '"')
	out = append(out, name...)
	out = append(out, '"', ':')
	return strconv.AppendInt(out, value, 10)
}
