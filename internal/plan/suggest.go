package plan

import (
	"fmt"
	"strings"
)

// didYouMean gives advice when a word is near a known one, else the list of known words.
func didYouMean(word string, known []string) string {
	if best := nearest(word, known); best != "" {
		return fmt.Sprintf("did you mean %q?", best)
	}
	if len(known) == 0 {
		return ""
	}
	return "known: " + strings.Join(known, ", ")
}

// nearest gives the known word with the fewest edits, or "" when even that one is far.
func nearest(word string, known []string) string {
	if len(word) > 64 {
		return ""
	}
	// Two edits allow for swapped letters; a word must keep at least one letter of its own.
	best, bestEdits := "", 1+min(max(2, len(word)/3), len(word)-1)
	for _, k := range known {
		if d := edits(strings.ToLower(word), strings.ToLower(k)); d < bestEdits {
			best, bestEdits = k, d
		}
	}
	return best
}

// edits is the Levenshtein distance in bytes.
func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
