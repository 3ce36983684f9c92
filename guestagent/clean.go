package guestagent

import (
	"strings"
	"unicode/utf8"
)

// Clean makes text from a guest safe to show: terminal escape sequences,
// control characters other than newline and tab, and characters that change the
// direction of text are left out; bytes that are not UTF-8 become U+FFFD. Its
// result is unchanged by a second Clean.
func Clean(text string) string {
	var b strings.Builder
	for len(text) > 0 {
		r, size := utf8.DecodeRuneInString(text)
		switch {
		case r == '\x1b':
			text = text[escapeLength(text):]
			continue
		case r == '\n' || r == '\t' || showable(r):
			b.WriteRune(r) // an invalid byte decodes to U+FFFD
		}
		text = text[size:]
	}
	return b.String()
}

func showable(r rune) bool {
	switch {
	case r < 0x20, r >= 0x7f && r < 0xa0:
		return false
	case r == 0x061c, r == 0x200e, r == 0x200f, r >= 0x202a && r <= 0x202e, r >= 0x2066 && r <= 0x2069:
		return false
	}
	return true
}

// escapeLength returns how many bytes the escape sequence at the start of text
// has: at least the escape character itself.
func escapeLength(text string) int {
	if len(text) < 2 {
		return 1
	}
	switch c := text[1]; {
	case c == '[':
		return csiLength(text)
	case strings.IndexByte("]PX^_", c) >= 0:
		return stringLength(text)
	case c >= 0x20 && c < 0x30: // intermediate bytes, then one final byte
		n := 1
		for n < len(text) && text[n] >= 0x20 && text[n] < 0x30 {
			n++
		}
		if n < len(text) && text[n] >= 0x30 && text[n] < 0x7f {
			n++
		}
		return n
	case c >= 0x30 && c < 0x7f:
		return 2
	}
	return 1
}

// csiLength: parameters and intermediates, then one final byte.
func csiLength(text string) int {
	for i := 2; i < len(text); i++ {
		switch c := text[i]; {
		case c >= 0x20 && c < 0x40:
		case c >= 0x40 && c < 0x7f:
			return i + 1
		default: // broken off: what follows is text again
			return i
		}
	}
	return len(text)
}

// stringLength: up to BEL or ESC \, but not past the end of the line, so that
// an unfinished one cannot swallow what comes after.
func stringLength(text string) int {
	for i := 2; i < len(text); i++ {
		switch {
		case text[i] == '\a':
			return i + 1
		case text[i] == '\n':
			return i
		case text[i] == '\x1b':
			if i+1 < len(text) && text[i+1] == '\\' {
				return i + 2
			}
			return i
		}
	}
	return len(text)
}
