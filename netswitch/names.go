package netswitch

import (
	"fmt"
	"regexp"
)

// Interface names inside the gateway namespace. They need no ID: one namespace
// holds one universe.
const (
	ifUniverse = "universe" // on the universe's bridge
	ifTransit  = "transit"  // towards the host
)

// nsTable is the name of our tables inside the gateway namespace.
const nsTable = "imago"

var validID = regexp.MustCompile(`^[a-z0-9]{1,6}$`)

func checkID(id string) error {
	if !validID.MatchString(id) {
		return fmt.Errorf("universe ID %q: want 1 to 6 characters of a-z and 0-9", id)
	}
	return nil
}

// The names on the host. An interface name has at most 15 characters.
func transitLink(id string) string { return "imgt-" + id }
func bridgeLink(id string) string  { return "imgb-" + id }
func hostTable(id string) string   { return "imago_" + id }
func vipTable(id string) string    { return "imago_vip_" + id }
func holdTable(id string) string   { return "imago_hold_" + id }

// validName holds a namespace's name inside its directory.
var validName = regexp.MustCompile(`^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$`)
