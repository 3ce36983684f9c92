package netswitch

import (
	"encoding/binary"
	"errors"
	"fmt"

	mdnetlink "github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// errGeneration says that somebody changed the ruleset between our reading and our
// writing; nothing of the transaction was applied.
var errGeneration = errors.New("ruleset generation has moved")

// nftBatch is one nftables transaction that the kernel refuses when the ruleset is
// not of the generation it was built upon. google/nftables has no such guard.
type nftBatch struct {
	conn *mdnetlink.Conn
	gen  uint32
	msgs []mdnetlink.Message
}

func nftType(msg uint16) mdnetlink.HeaderType {
	return mdnetlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | msg)
}

func nfgen(family byte, resID uint16) []byte {
	return binary.BigEndian.AppendUint16([]byte{family, unix.NFNETLINK_V0}, resID)
}

// newBatch reads the present generation. What the batch is built upon must be read
// after this call.
func newBatch() (*nftBatch, error) {
	conn, err := mdnetlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return nil, fmt.Errorf("open nftables: %w", err)
	}
	if err := largeBuffers(conn); err != nil {
		conn.Close()
		return nil, err
	}
	gen, err := generation(conn)
	if err != nil {
		conn.Close()
		return nil, err
	}
	return &nftBatch{conn: conn, gen: gen}, nil
}

func generation(conn *mdnetlink.Conn) (uint32, error) {
	reply, err := conn.Execute(mdnetlink.Message{
		Header: mdnetlink.Header{Type: nftType(unix.NFT_MSG_GETGEN), Flags: mdnetlink.Request},
		Data:   nfgen(unix.AF_UNSPEC, 0),
	})
	if err != nil {
		return 0, fmt.Errorf("read ruleset generation: %w", err)
	}
	for _, m := range reply {
		if len(m.Data) < 4 {
			continue
		}
		ad, err := mdnetlink.NewAttributeDecoder(m.Data[4:])
		if err != nil {
			return 0, fmt.Errorf("decode ruleset generation: %w", err)
		}
		ad.ByteOrder = binary.BigEndian
		for ad.Next() {
			if ad.Type() == unix.NFTA_GEN_ID {
				return ad.Uint32(), nil
			}
		}
	}
	return 0, errors.New("read ruleset generation: no answer")
}

func (b *nftBatch) close() { b.conn.Close() }

// element is one entry of an endpoint map.
type element struct{ key, val []byte }

func (b *nftBatch) add(family byte, table, set string, elems []element) error {
	return b.elements(unix.NFT_MSG_NEWSETELEM, mdnetlink.Create, family, table, set, elems)
}

func (b *nftBatch) remove(family byte, table, set string, elems []element) error {
	return b.elements(unix.NFT_MSG_DELSETELEM, 0, family, table, set, elems)
}

// elementsPerMessage keeps the nested list below the 64 KiB of a netlink attribute.
const elementsPerMessage = 500

func (b *nftBatch) elements(kind uint16, flags mdnetlink.HeaderFlags, family byte, table, set string, elems []element) error {
	for len(elems) > 0 {
		n := min(len(elems), elementsPerMessage)
		data, err := encodeElements(table, set, elems[:n], kind == unix.NFT_MSG_NEWSETELEM)
		if err != nil {
			return fmt.Errorf("encode elements: %w", err)
		}
		b.msgs = append(b.msgs, mdnetlink.Message{
			Header: mdnetlink.Header{Type: nftType(kind), Flags: mdnetlink.Request | mdnetlink.Acknowledge | flags},
			Data:   append(nfgen(family, 0), data...),
		})
		elems = elems[n:]
	}
	return nil
}

func encodeElements(table, set string, elems []element, withData bool) ([]byte, error) {
	ae := mdnetlink.NewAttributeEncoder()
	ae.String(unix.NFTA_SET_ELEM_LIST_TABLE, table)
	ae.String(unix.NFTA_SET_ELEM_LIST_SET, set)
	ae.Nested(unix.NFTA_SET_ELEM_LIST_ELEMENTS, func(list *mdnetlink.AttributeEncoder) error {
		for _, e := range elems {
			list.Nested(unix.NFTA_LIST_ELEM, func(ae *mdnetlink.AttributeEncoder) error {
				nestedValue(ae, unix.NFTA_SET_ELEM_KEY, e.key)
				if withData {
					nestedValue(ae, unix.NFTA_SET_ELEM_DATA, e.val)
				}
				return nil
			})
		}
		return nil
	})
	return ae.Encode()
}

func nestedValue(ae *mdnetlink.AttributeEncoder, typ uint16, v []byte) {
	ae.Nested(typ, func(ae *mdnetlink.AttributeEncoder) error {
		ae.Bytes(unix.NFTA_DATA_VALUE, v)
		return nil
	})
}

// commit sends the transaction. errGeneration means that it was refused whole; any
// other error leaves the outcome to be read.
func (b *nftBatch) commit() error {
	genID := mdnetlink.NewAttributeEncoder()
	genID.ByteOrder = binary.BigEndian
	genID.Uint32(unix.NFNL_BATCH_GENID, b.gen)
	attr, err := genID.Encode()
	if err != nil {
		return fmt.Errorf("encode generation: %w", err)
	}
	edge := func(kind uint16, data []byte) mdnetlink.Message {
		return mdnetlink.Message{
			Header: mdnetlink.Header{Type: mdnetlink.HeaderType(kind), Flags: mdnetlink.Request},
			Data:   append(nfgen(unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES), data...),
		}
	}
	all := append([]mdnetlink.Message{edge(unix.NFNL_MSG_BATCH_BEGIN, attr)}, b.msgs...)
	all = append(all, edge(unix.NFNL_MSG_BATCH_END, nil))
	if _, err := b.conn.SendMessages(all); err != nil {
		return fmt.Errorf("send transaction: %w", err)
	}
	for range b.msgs {
		if _, err := b.conn.Receive(); err != nil {
			if errors.Is(err, unix.ERESTART) {
				return errGeneration
			}
			return fmt.Errorf("apply transaction: %w", err)
		}
	}
	return nil
}
