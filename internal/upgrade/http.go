package upgrade

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"imago.dev/imago/guestagent"
	"imago.dev/imago/internal/plan"
)

// maxBody bounds what is read of an answer.
const maxBody = 16 << 20

// checkHTTP sends the plan's request and compares the answer with what it must be.
func checkHTTP(ctx context.Context, client *http.Client, h *plan.HTTP) error {
	req, err := http.NewRequestWithContext(ctx, h.Method, h.URL, nil)
	if err != nil {
		return err
	}
	for k, v := range h.Header {
		req.Header.Set(k, v)
	}
	req.Host = h.Host
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		return fmt.Errorf("read the answer of %s: %w", h.URL, err)
	}
	if resp.StatusCode != h.Status {
		return fmt.Errorf("%s answered with status %d instead of %d: %s", h.URL, resp.StatusCode, h.Status, excerpt(string(body)))
	}
	var faults []error
	for _, want := range h.Contains {
		if !strings.Contains(string(body), want) {
			faults = append(faults, fmt.Errorf("the answer of %s does not contain %q: %s", h.URL, want, excerpt(string(body))))
		}
	}
	for _, bad := range h.NotContains {
		if strings.Contains(string(body), bad) {
			faults = append(faults, fmt.Errorf("the answer of %s contains %q", h.URL, bad))
		}
	}
	return errors.Join(faults...)
}

// excerpt is the beginning of a guest's text, safe to print.
func excerpt(s string) string {
	s = guestagent.Clean(strings.Join(strings.Fields(s), " "))
	if len(s) > 300 {
		s = strings.ToValidUTF8(s[:300], "") + "…"
	}
	return s
}

func hostKeyWrong(err error) bool {
	var wrong *guestagent.HostKeyError
	return errors.As(err, &wrong)
}
