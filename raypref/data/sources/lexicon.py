"""The words of generated titles: the noun tells the genre, the adjective the mood."""

# ruff: noqa: E501
from __future__ import annotations

GENRES: dict[str, tuple[str, ...]] = {
    "western": ("Saddle", "Canyon", "Sheriff", "Rancher", "Stagecoach", "Bandit", "Prairie", "Revolver", "Cattle", "Frontier"),
    "space": ("Nebula", "Starship", "Comet", "Orbit", "Galaxy", "Android", "Moonbase", "Asteroid", "Cosmonaut", "Pulsar"),
    "noir": ("Alley", "Detective", "Alibi", "Cigarette", "Shadow", "Blackmail", "Witness", "Fedora", "Informant", "Motel"),
    "romance": ("Kiss", "Wedding", "Sweetheart", "Valentine", "Bouquet", "Honeymoon", "Letter", "Waltz", "Promise", "Proposal"),
    "horror": ("Crypt", "Vampire", "Seance", "Coffin", "Werewolf", "Asylum", "Scream", "Cellar", "Phantom", "Graveyard"),
    "war": ("Battalion", "Trench", "Bunker", "Convoy", "Sergeant", "Airfield", "Siege", "Medal", "Platoon", "Armistice"),
    "fantasy": ("Dragon", "Wizard", "Kingdom", "Sorcerer", "Goblin", "Spellbook", "Unicorn", "Enchantress", "Throne", "Amulet"),
    "sports": ("Stadium", "Champion", "Goalkeeper", "Marathon", "Boxer", "Trophy", "Quarterback", "Racquet", "Coach", "Velodrome"),
    "music": ("Melody", "Orchestra", "Guitar", "Chorus", "Ballad", "Drummer", "Encore", "Cabaret", "Rhapsody", "Jukebox"),
    "sea": ("Harbor", "Lighthouse", "Sailor", "Anchor", "Schooner", "Reef", "Captain", "Submarine", "Mermaid", "Voyage"),
    "crime": ("Heist", "Vault", "Mobster", "Ransom", "Getaway", "Forger", "Verdict", "Prison", "Smuggler", "Kingpin"),
    "family": ("Puppy", "Grandfather", "Treehouse", "Birthday", "Kitten", "Playground", "Cousin", "Lullaby", "Snowman", "Picnic"),
    "jungle": ("Panther", "Expedition", "Temple", "Explorer", "Orchid", "Crocodile", "Waterfall", "Idol", "Gorilla", "Rapids"),
    "school": ("Teacher", "Classroom", "Semester", "Graduate", "Locker", "Professor", "Homework", "Dormitory", "Detention", "Library"),
    "spy": ("Agent", "Cipher", "Embassy", "Dossier", "Defector", "Passport", "Microfilm", "Courier", "Decoy", "Safehouse"),
    "kitchen": ("Recipe", "Baker", "Restaurant", "Apron", "Banquet", "Pastry", "Vineyard", "Waiter", "Market", "Supper"),
}  # fmt: skip

MOODS: dict[str, tuple[str, ...]] = {
    "dark": ("Crimson", "Hollow", "Bitter", "Midnight", "Broken"),
    "bright": ("Golden", "Merry", "Sunlit", "Lucky", "Gentle"),
    "strange": ("Crooked", "Invisible", "Whispering", "Clockwork", "Paper"),
    "grand": ("Eternal", "Royal", "Burning", "Mighty", "Silver"),
    "quiet": ("Sleeping", "Distant", "Winter", "Lonely", "Velvet"),
    "wild": ("Reckless", "Electric", "Savage", "Runaway", "Thunder"),
}
