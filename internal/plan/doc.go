// Package plan owns the upgrade plan: its types, the strict loading of the one YAML file that an operator writes, the
// defaults, the validation and the JSON schema.
//
// Loading has three stages. Decoding refuses unknown keys, duplicate keys and wrong types; filling sets defaults;
// validation checks everything that the file alone can tell. All faults are collected and reported at once, each with
// its line and column.
//
// The package only reads the plan file. It never looks at libvirt, at guests, at images or at the network: whether what
// the plan names exists is for the check phase to find out.
package plan
