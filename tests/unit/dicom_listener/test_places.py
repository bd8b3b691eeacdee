"""Who gives way to whom when all places are taken."""

import pytest

from dicom_listener.places import CROWDING_SECONDS, SLOW_SECONDS, Places


class Peer:
    def __init__(self, address: str = "10.0.0.1", slow_seconds: float = 0.0) -> None:
        self.number = 1
        self.address = address
        self.peer = f"{address}:5000"
        self.slow_seconds = slow_seconds
        self.gone = False

    def give_way(self) -> None:
        self.gone = True


def entered(places: Places, *peers: Peer) -> None:
    for peer in peers:
        assert places.enter(peer)


def associated(places: Places, *peers: Peer) -> None:
    for peer in peers:
        assert places.enter(peer)
        assert places.associate(peer)


def test_while_there_is_room_nobody_is_hurried() -> None:
    places = Places(associations=2, connections=4)
    crawlers = [Peer(slow_seconds=1e6) for _ in range(4)]
    associated(places, *crawlers[:2])
    entered(places, *crawlers[2:])
    assert not any(peer.gone for peer in crawlers)


def test_the_oldest_connection_that_asked_for_nothing_gives_way() -> None:
    places = Places(associations=1, connections=3)
    peers = [Peer() for _ in range(4)]
    entered(places, *peers)
    assert [peer.gone for peer in peers] == [True, False, False, False]
    assert not places.associate(peers[0]), "it has no place any more"
    assert places.associate(peers[1])


def test_a_connection_of_a_crowding_address_gives_way_before_an_older_one() -> None:
    places = Places(associations=1, connections=3)
    alone, *crowd = Peer("10.0.0.9"), Peer("10.0.0.1"), Peer("10.0.0.1")
    entered(places, alone, *crowd, Peer("10.0.0.2"))
    assert (alone.gone, crowd[0].gone, crowd[1].gone) == (False, True, False)


def test_an_association_never_gives_way_to_a_mere_connection() -> None:
    places = Places(associations=1, connections=2)
    association = Peer(slow_seconds=1e6)
    associated(places, association)
    entered(places, Peer(), Peer(), Peer())
    assert not association.gone


def test_the_slowest_association_gives_way() -> None:
    places = Places(associations=3, connections=9)
    peers = [Peer(slow_seconds=SLOW_SECONDS + more) for more in (1, 5, 2)]
    associated(places, *peers)
    associated(places, Peer())
    assert [peer.gone for peer in peers] == [False, True, False]


@pytest.mark.parametrize("slow_seconds", [0.0, SLOW_SECONDS])
def test_where_nobody_is_slow_the_newcomer_is_turned_away(slow_seconds: float) -> None:
    places = Places(associations=2, connections=9)
    peers = [Peer(slow_seconds=slow_seconds) for _ in range(2)]
    associated(places, *peers)
    newcomer = Peer()
    entered(places, newcomer)
    assert not places.associate(newcomer)
    assert not any(peer.gone for peer in (*peers, newcomer))
    places.leave(peers[0])
    assert places.associate(newcomer)


def test_an_address_with_more_places_than_others_has_less_patience_shown() -> None:
    places = Places(associations=3, connections=9)
    one = Peer("10.0.0.9", slow_seconds=SLOW_SECONDS)
    crowd = [Peer("10.0.0.1", slow_seconds=CROWDING_SECONDS + more) for more in (1, 2)]
    associated(places, one, *crowd)
    of_the_crowd = Peer("10.0.0.1")
    entered(places, of_the_crowd)
    assert not places.associate(of_the_crowd), "not for one of its own"
    associated(places, Peer("10.0.0.2"))
    assert [peer.gone for peer in (one, *crowd)] == [False, False, True]


def test_the_end_of_an_association_makes_room_before_its_connection_is_closed() -> None:
    places = Places(associations=1, connections=9)
    first = Peer()
    associated(places, first)
    places.dissociate(first)
    associated(places, Peer())
    assert not first.gone
    places.leave(first)
    places.leave(first)


def test_when_those_that_were_told_to_go_do_not_newcomers_are_refused() -> None:
    places = Places(associations=1, connections=2)
    peers = [Peer() for _ in range(4)]
    entered(places, *peers)
    assert [peer.gone for peer in peers] == [True, True, False, False]
    assert not places.enter(Peer())
    places.leave(peers[0])
    assert places.enter(Peer())
