package binlog

import "strings"

// word is one token of a statement. Quoted names have their quotes taken away.
type word struct {
	text   string
	quoted bool // in backquotes or double quotes
}

// is tells whether the word is the keyword.
func (w word) is(keyword string) bool { return !w.quoted && strings.EqualFold(w.text, keyword) }

// words are the first tokens of a statement, without comments; what stands in a
// comment that servers execute counts. ok is false where the text cannot be read
// with certainty. Strings are left out as the word ' in their place.
func words(statement string, most int) (list []word, ok bool) {
	s := statement
	executed := 0 // depth of comments that servers execute
	for len(list) < most {
		s = strings.TrimLeft(s, " \t\r\n\f\v")
		switch {
		case s == "":
			return list, executed == 0
		case strings.HasPrefix(s, "/*!"), strings.HasPrefix(s, "/*M!"):
			s = strings.TrimLeft(s[strings.IndexByte(s, '!')+1:], "0123456789")
			executed++
		case executed > 0 && strings.HasPrefix(s, "*/"):
			s = s[2:]
			executed--
		case strings.HasPrefix(s, "/*"):
			end := strings.Index(s[2:], "*/")
			if end < 0 {
				return list, false
			}
			s = s[2+end+2:]
		case s[0] == '#', strings.HasPrefix(s, "-- "), strings.HasPrefix(s, "--\n"), strings.HasPrefix(s, "--\t"):
			end := strings.IndexByte(s, '\n')
			if end < 0 {
				return list, executed == 0
			}
			s = s[end:]
		case s[0] == '`' || s[0] == '"' || s[0] == '\'':
			text, rest, closed := quoted(s)
			if !closed {
				return list, false
			}
			if s[0] == '\'' {
				text = "'"
			}
			list = append(list, word{text: text, quoted: s[0] != '\''})
			s = rest
		case wordByte(s[0]):
			n := 1
			for n < len(s) && wordByte(s[n]) {
				n++
			}
			list = append(list, word{text: s[:n]})
			s = s[n:]
		default:
			list = append(list, word{text: s[:1]})
			s = s[1:]
		}
	}
	return list, true
}

func wordByte(b byte) bool {
	return b >= 0x80 || b == '_' || b == '$' || b == '@' || '0' <= b && b <= '9' || 'a' <= b && b <= 'z' || 'A' <= b && b <= 'Z'
}

// quoted takes a string or name in quotes from the front of s.
func quoted(s string) (text, rest string, closed bool) {
	q := s[0]
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == '\\' && q != '`' && i+1 < len(s):
			i++
			b.WriteByte(s[i])
		case s[i] != q:
			b.WriteByte(s[i])
		case i+1 < len(s) && s[i+1] == q:
			b.WriteByte(q)
			i++
		default:
			return b.String(), s[i+1:], true
		}
	}
	return "", "", false
}
