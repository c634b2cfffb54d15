"""The subjects that the demo asks about: tables, columns and values, all made up for it.

One block a domain, one line a table. `genre=a|b` is a text column and its values, `city=@city` one that takes its
values from a pool below, `pages:40-900` a number and its range, and `loan > book member` says that a loan refers to a
book and to a member. An underscore in a value stands for a space.

SEEN is what pre-training and fine-tuning may use. DEV is for decisions, TEST for the figures that are reported; neither
is ever trained on, and they share no table with SEEN or with one another.
"""

SEEN = """
# libraries
book: title=@title genre=mystery|poetry|travel|history|romance publisher=Fernhill|Blue_Door|Old_Mill|Harrow language=@language pages:40-900 copies:1-30
member: name=@person city=@city status=active|expired|blocked age:8-90 fines:0-80
loan > book member: due_date=@date desk=north|south|main|mobile days:1-60 renewals:0-5

# hospitals
doctor: name=@person specialty=surgery|cardiology|neurology|pediatrics shift=day|night|late salary:4000-16000 experience:1-40
patient: name=@person blood_type=A|B|AB|O city=@city age:1-99 weight:10-130
visit > doctor patient: visit_date=@date reason=fever|checkup|injury|pain room_number:1-400 charge:20-900

# schools
teacher: name=@person subject=math|biology|music|geography degree=bachelor|master|doctorate salary:2000-7000 age:24-68
pupil: name=@person grade_level=first|second|third|fourth hobby=reading|chess|running|painting age:6-18 absences:0-40
lesson > teacher: topic=fractions|cells|rhythm|maps|verbs weekday=@weekday hour:8-17 seats:10-35

# football
club: name=@title city=@city stadium=Hillside|Riverbank|Old_Park|The_Meadow founded:1880-2010 budget:100-9000
player > club: name=@person position=goalkeeper|defender|midfielder|striker nationality=@country goals:0-60 age:17-40 salary:10-900
fixture > club: opponent=Rovers|Wanderers|United|Athletic|Rangers season=@season attendance:200-80000 goals_scored:0-9

# cinemas
movie: title=@title genre=comedy|drama|thriller|western director=@person year:1950-2024 duration:70-210 budget:1-300
theater: name=@title city=@city owner=@person screens:1-20 capacity:60-3000
screening > movie theater: show_date=@date language=@language format=digital|film|outdoor tickets_sold:0-900 price:4-25

# airlines
airport: name=@title city=@city country=@country runways:1-6 elevation:0-3500
airline: name=@title alliance=Skyline|Horizon|Meridian|none country=@country fleet_size:3-400 founded:1920-2015
flight > airline airport: flight_number=@code aircraft=jet|turboprop|wide_body departure_date=@date distance:100-9000 passengers:10-400

# hotels
hotel: name=@title city=@city category=budget|standard|luxury stars:1-5 rooms:8-700
guest: name=@person country=@country membership=silver|gold|basic age:18-88 points:0-9000
booking > hotel guest: check_in=@date channel=phone|web|agency nights:1-21 total_price:50-5000

# restaurants
chef: name=@person cuisine=italian|french|thai|mexican country=@country awards:0-12 age:20-70
dish > chef: name=lemon_soup|baked_trout|rice_bowl|plum_tart course=starter|main|dessert diet=vegan|meat|fish price:4-60 calories:80-1400
review > dish: critic=@person mood=warm|harsh|neutral review_date=@date rating:1-10

# shops
product: name=stool|kettle|rug|mirror|shelf|clock category=kitchen|bedroom|office color=@color price:2-900 stock:0-500
customer: name=@person city=@city email=@email age:18-85 credit:0-5000
purchase > customer product: bought_on=@date status=open|shipped|returned|cancelled quantity:1-40 discount:0-50

# banks
branch: name=@title city=@city manager=@person assets:100-90000 opened_year:1900-2020
account > branch: holder=@person account_type=savings|checking|joint currency=@currency balance:0-90000 fee:0-30
transfer > account: transfer_date=@date purpose=rent|wages|gift|refund amount:5-9000

# farms
farm: name=@title owner=@person region=@region acres:5-3000 workers:1-80
field > farm: crop=wheat|barley|maize|beans soil=clay|sand|loam size:1-200 yield:10-900
tractor > farm: brand=Harvo|Feldmann|Greenpull|Torro color=@color horsepower:20-400 year:1975-2024

# zoos
keeper: name=@person section=reptiles|birds|mammals|fish shift=early|late|night age:19-67 salary:1500-4500
enclosure: name=@title climate=tropical|dry|cold terrain=rock|grass|water area:20-9000 capacity:1-60
animal > keeper enclosure: name=Momo|Tiko|Bela|Rufus|Kira species=lion|otter|crane|python diet=meat|plants|mixed age:0-60 weight:1-4000

# museums
museum: name=@title city=@city director=@person visitors:100-900000 opened:1800-2020
artist: name=@person style=cubist|baroque|modern|folk nationality=@country birth_year:1500-1995 awards:0-20
painting > museum artist: title=@title medium=oil|ink|watercolor condition=good|poor|restored year:1500-2023 value:100-90000

# orchestras
composer: name=@person era=baroque|classical|romantic|modern country=@country birth_year:1600-1990 works:1-300
musician: name=@person instrument=violin|cello|flute|horn city=@city age:18-75 salary:1500-8000
concert > composer: hall=Grand_Hall|Rose_Hall|The_Arches concert_date=@date soloist=@person audience:50-3000 duration:40-180

# software
developer: name=@person role=backend|frontend|tester|designer office=@city salary:2500-12000 experience:0-35
project: name=@title language=rust|python|java|go license=free|closed|mixed stars:0-90000 budget:1-900
ticket > developer project: priority=low|medium|high|urgent state=open|closed|stuck opened_on=@date hours:1-90 comments:0-200

# elections
party: name=@title ideology=liberal|green|social|rural leader=@person members:100-90000 founded:1890-2020
candidate > party: name=@person district=@region occupation=lawyer|nurse|farmer|clerk age:21-80 votes:50-90000
poll > candidate: agency=Clearview|Pulse|Census_Lab poll_date=@date method=phone|mail|street sample_size:100-5000 support:1-80

# railways
station: name=@title city=@city zone=A|B|C|D platforms:1-24 passengers:100-90000
train: name=@title operator=Northline|Coastway|Interland fuel=diesel|electric|steam speed:60-320 cars:2-20
stop > train station: weekday=@weekday service=express|local|night delay:0-90 minutes:1-30

# shipping
port: name=@title country=@country harbor_type=river|sea|lake depth:3-30 docks:1-60
ship > port: name=@title flag=@country ship_type=tanker|ferry|freighter length:20-400 crew:4-90
cargo > ship: goods=grain|steel|timber|coffee loaded_on=@date weight:5-9000 value:10-90000

# real estate
agent: name=@person agency=Keystone|Homeport|Nestor city=@city commission:1-12 sales:0-200
property > agent: street=@street property_type=house|flat|studio|villa heating=gas|wood|electric price:30000-900000 bedrooms:1-8 area:20-600
viewing > property: visitor=@person viewing_date=@date opinion=keen|unsure|bored minutes:5-90

# insurance
client: name=@person profession=baker|pilot|teacher|miner city=@city age:18-90 income:1000-20000
policy > client: policy_type=fire|travel|health|car start_date=@date status=valid|lapsed|pending premium:20-3000 coverage:1000-90000
claim > policy: cause=storm|theft|collision|illness filed_on=@date verdict=paid|denied|open amount:50-50000

# town councils
district: name=@title mayor=@person party=green|liberal|rural population:500-900000 area:2-900
council: name=@title chair=@person meeting_day=@weekday members:5-80 founded:1850-2015
proposal > district council: topic=parks|roads|housing|water result=passed|rejected|delayed cost:100-90000 votes:0-80

# weather
weather_station: name=@title region=@region sensor=laser|optical|rotary altitude:0-4000 built:1950-2022
reading > weather_station: sky=clear|cloudy|foggy|stormy measured_on=@date wind_direction=north|south|east|west temperature:0-45 humidity:5-100 rainfall:0-120
warning > weather_station: hazard=flood|heat|frost|gale issued_on=@date level=yellow|orange|red duration:1-96

# astronomy
telescope: name=@title location=@region design=radio|optical|infrared aperture:10-3000 cost:1-9000
star: name=Velor|Antara|Miris|Tauro|Sabik constellation=Lyre|Hunter|Swan|Crane color=@color distance:4-90000 magnitude:0-20
observation > telescope star: observer=@person night=@date quality=sharp|blurred|faint exposure:1-900 frames:1-400

# chemistry
chemist: name=@person laboratory=Alder_Lab|West_Lab|Basement field=organic|physical|nuclear age:22-70 papers:0-200
substance: name=nitrate|ether|borax|acetone hazard_class=toxic|safe|flammable phase=solid|liquid|gas density:1-20 price:1-900
experiment > chemist substance: outcome=success|failure|unclear run_date=@date method=heating|mixing|cooling duration:1-600 temperature:0-900

# pharmacies
pharmacy: name=@title city=@city owner=@person staff:1-30 opening_hour:6-10
drug: name=Calmex|Dolorin|Fevril|Sanovan form=pill|syrup|cream maker=Medica|Purelab|Alvo price:1-200 dosage:1-900
prescription > pharmacy drug: patient_name=@person issued_on=@date urgency=routine|urgent|emergency quantity:1-90 refills:0-6

# gyms
trainer: name=@person specialty=boxing|yoga|rowing|climbing certificate=basic|advanced|expert age:20-60 hourly_rate:15-120
workout > trainer: name=@title intensity=easy|medium|hard equipment=ropes|weights|mat minutes:10-120 calories:50-1200
athlete > trainer: name=@person gender=male|female goal=strength|speed|balance age:16-70 height:140-210

# chess
chess_player: name=@person title=master|candidate|expert|novice country=@country rating:900-2850 age:6-85
tournament: name=@title city=@city format=swiss|knockout|league rounds:3-15 prize:50-9000
game > chess_player tournament: opening=Italian|Scotch|Slav|Dutch result=won|lost|drawn played_on=@date moves:8-140 minutes:5-360

# cycling
team: name=@title sponsor=Volta|Kermi|Sunbrew|Alto country=@country budget:100-9000 founded:1960-2020
cyclist > team: name=@person specialty=sprint|climb|relay bike=carbon|steel|alloy age:18-42 wins:0-90
stage > cyclist: start_town=@city terrain=flat|hilly|mountain stage_date=@date length:5-260 climb_meters:0-4500

# tennis
tennis_player: name=@person hand=left|right nationality=@country ranking:1-900 titles:0-60
court: name=@title surface=clay|grass|hard|carpet roof=open|closed seats:50-20000 built:1900-2020
final > tennis_player court: round_name=first|second|semi|last final_date=@date outcome=win|loss sets:2-5 aces:0-40

# theatres
play: title=@title author=@person genre=tragedy|farce|satire|musical acts:1-5 premiere_year:1600-2024
actor: name=@person voice=bass|tenor|alto hometown=@city age:16-85 fee:100-9000
performance > play actor: stage_name=Main|Cellar|Garden performed_on=@date role=king|servant|ghost|lover audience:10-1500 applause:0-20

# television
channel: name=@title owner=@person country=@country viewers:100-90000 launched:1950-2022
show > channel: title=@title genre=quiz|news|cartoon|sitcom host=@person episodes:1-900 rating:1-10
episode > show: title=@title air_date=@date writer=@person number:1-40 length:10-90

# newspapers
newspaper: name=@title city=@city frequency=daily|weekly|monthly circulation:500-900000 price:1-9
journalist > newspaper: name=@person beat=sports|politics|crime|culture language=@language salary:1500-7000 prizes:0-12
article > journalist: headline=@title section=front|local|world published_on=@date words:100-5000 reads:0-90000

# photography
photographer: name=@person style=portrait|street|wildlife|studio city=@city followers:10-90000 age:18-80
camera: model=@code brand=Optik|Lumina|Zenko mount=round|square|fixed megapixels:2-120 price:50-9000
photo > photographer camera: caption=@title light=dawn|noon|dusk|flash taken_on=@date likes:0-9000 iso:50-6400

# fashion
designer: name=@person country=@country label=Noir|Velvet|Loom|Satin shows:0-60 age:20-80
garment > designer: name=coat|scarf|dress|shirt fabric=wool|silk|linen|cotton color=@color price:10-5000 size:30-60
model > designer: name=@person agency=Runway|Glance|Pose hair=black|brown|blond|red height:160-200 fee:100-9000

# bakeries
baker: name=@person town=@city skill=bread|cakes|pastry age:18-70 wage:10-60
bread > baker: name=rye_loaf|white_roll|seed_bun|flatbread flour=rye|wheat|spelt shape=round|long|braided weight:50-2000 price:1-15
delivery > bread: cafe=Corner_Cup|The_Mill|Sunny_Side delivered_on=@date driver=@person loaves:5-400

# breweries
brewery: name=@title city=@city founder=@person founded:1700-2022 output:10-9000
beer > brewery: name=Gold_Fox|Dark_Anchor|Pale_Owl|Red_Barn style=lager|stout|ale|porter hop=Saaz|Cascade|Fuggle alcohol:1-14 bitterness:5-100
tasting > beer: judge=@person glass=tulip|mug|flute tasted_on=@date score:1-100

# car dealers
dealer: name=@title city=@city brand=Vantor|Keller|Mistral|Oxbow staff:2-90 revenue:10-9000
car > dealer: model=@code body=sedan|wagon|coupe|van color=@color price:900-90000 mileage:0-300000 doors:2-5
test_drive > car: driver=@person drive_date=@date impression=great|fine|bad minutes:5-90 kilometers:1-120

# bus lines
depot: name=@title district=@region supervisor=@person buses:4-200 opened:1920-2022
bus_driver > depot: name=@person shift=morning|evening|night license=D1|D2|D3 age:21-66 trips:10-9000
route > depot: code=@code first_stop=@street last_stop=@street stops:4-60 length:2-90

# post offices
post_office: name=@title city=@city postmaster=@person counters:1-20 mailboxes:10-3000
postal_worker > post_office: name=@person vehicle=bicycle|van|scooter shift=early|late age:18-66 seniority:0-40
parcel > post_office: recipient=@person destination=@city service=standard|express|fragile weight:1-40 postage:2-120

# courts of law
judge: name=@person court_name=High_Court|Civil_Court|Youth_Court gender=male|female appointed:1980-2023 cases:0-2000
lawyer: name=@person firm=Hale|Morrow|Quill city=@city fee:80-900 wins:0-400
trial > judge lawyer: charge=fraud|theft|libel|arson verdict=guilty|acquitted|settled start_date=@date days:1-200 witnesses:0-60

# police
precinct: name=@title borough=@region captain=@person officers:5-600 patrol_cars:1-90
officer > precinct: name=@person rank=sergeant|lieutenant|detective|cadet gender=male|female age:20-62 arrests:0-300
incident > officer: offense=burglary|vandalism|speeding|assault street=@street reported_on=@date severity:1-10 fine:0-5000

# fire brigades
fire_station: name=@title town=@city chief=@person engines:1-12 volunteers:0-90
firefighter > fire_station: name=@person rank=probationer|crew_leader|captain blood_group=A|B|AB|O age:18-60 rescues:0-200
alarm > fire_station: building=school|barn|factory|garage cause=lightning|stove|wiring alarm_date=@date response_time:2-40 damage:0-90000

# charities
charity: name=@title mission=food|shelter|health|schooling country=@country budget:10-90000 founded:1900-2022
donor: name=@person donor_type=private|company|church city=@city age:18-95 pledges:0-40
donation > charity donor: donated_on=@date payment=cash|card|check campaign=winter|spring|harvest amount:5-9000 tax_refund:0-900

# conferences
conference: name=@title city=@city theme=energy|ethics|robots|oceans year:1980-2025 participants:20-9000
speaker: name=@person affiliation=Delta_Group|State_Lab|Open_Forum country=@country age:22-85 talks:1-200
session > conference speaker: title=@title hall=Amber|Cobalt|Ivory weekday=@weekday minutes:10-120 listeners:5-900

# universities
department: name=physics|history|law|medicine|economics building=East_Wing|Tower|Annex head=@person budget:100-9000 employees:5-400
student > department: name=@person status=enrolled|graduated|on_leave hometown=@city age:17-60 credits:0-240
course > department: title=@title level=introductory|advanced|seminar term=spring|summer|autumn credits:1-12 enrollment:3-400

# dance schools
dance_studio: name=@title city=@city floor=wood|vinyl|cork mirrors:1-20 rent:200-9000
dancer > dance_studio: name=@person style=ballet|tango|swing|tap level=beginner|skilled|professional age:5-70 medals:0-40
recital > dance_studio: title=@title recital_date=@date venue=@title performers:2-90 spectators:10-2000

# video games
studio: name=@title country=@country founder=@person employees:1-3000 founded:1975-2022
video_game > studio: title=@title genre=puzzle|racing|strategy|platform console=Nova|Pixel_Box|Orbit year:1980-2025 copies_sold:100-900000
gamer > video_game: nickname=@code country=@country skill=rookie|veteran|elite age:8-70 high_score:10-90000

# blogs
blogger: name=@person topic=travel|cooking|gardening|finance country=@country followers:1-90000 age:16-80
post > blogger: title=@title mood=funny|serious|angry posted_on=@date likes:0-9000 words:50-4000
comment > post: author=@person tone=kind|rude|neutral written_on=@date upvotes:0-900 replies:0-90

# mountains
mountain: name=@title range=Grey_Teeth|Silver_Chain|Long_Spine country=@country height:300-8800 first_ascent:1780-1990
climber: name=@person nationality=@country gender=male|female age:16-75 summits:0-120
expedition > mountain climber: season=@season outcome=reached|aborted|rescued start_date=@date days:1-90 members:1-30

# rivers
river: name=@title source=glacier|spring|lake country=@country length:10-6500 discharge:1-90000
bridge > river: name=@title material=stone|steel|timber architect=@person span:10-2000 built:1500-2022
dam > river: name=@title dam_type=arch|gravity|earth operator=Hydra|Bluewater|Torrent height:10-300 power:1-9000

# forestry
forest: name=@title region=@region ownership=public|private|mixed hectares:10-90000 founded_year:1850-2010
tree > forest: species=oak|birch|spruce|maple health=strong|weak|dying planted_on=@date height:1-90 girth:10-900
ranger > forest: name=@person duty=patrol|guiding|fire_watch education=college|apprenticeship age:20-66 years_of_service:0-45

# mining
mine: name=@title mineral=copper|zinc|silver|coal country=@country depth:20-4000 workers:5-3000
shaft > mine: label=@code lining=concrete|steel|brick state=open|flooded|sealed depth:10-3000 diameter:1-12
accident > mine: kind=collapse|gas|fire|fall happened_on=@date inspector=@person injured:0-90 loss:0-90000

# music charts
singer: name=@person genre=jazz|rock|folk|soul country=@country birth_year:1930-2006 net_worth:1-900
album > singer: title=@title record_label=Halo|Groove|Tinsel producer=@person year:1955-2025 sales:100-900000
song > album: title=@title key_signature=minor|major language=@language length:60-900 plays:100-900000
"""

DEV = """
# cheese dairies
dairy: name=@title valley=@region cheesemaker=@person vats:1-40 milk_intake:100-9000
cheese > dairy: cheese_name=Old_Bertram|Blue_Lantern|Goat_Crown|Ash_Wheel rind=washed|waxed|bloomy|natural milk_source=cow|goat|sheep aging_weeks:2-150 fat_percent:10-60
cheese_buyer > dairy: shopfront=@title contact=@person payment_terms=prepaid|monthly|barter wheels_bought:1-400 rebate:0-30

# hot air balloons
balloon: registration=@code envelope_color=@color burner=single|double|triple basket_size:2-24 flying_hours:0-3000
balloonist: full_name=@person home_field=@city permit=student|commercial|private launches:0-900 landings:0-900
ascent > balloon balloonist: launch_site=@title wind=calm|breezy|gusty launched_on=@date peak_altitude:100-6000 propane_used:10-300

# aquariums
tank: tank_label=@code water=fresh|salt|brackish gallery=@title liters:50-900000 filters:1-12
aquarist: full_name=@person dive_rating=open_water|rescue|none mentor=@person dives:0-2000 feedings:1-90
sea_creature > tank aquarist: nickname=Bubbles|Finn|Coraline|Squirt kind=octopus|seahorse|ray|eel temperament=shy|bold|playful body_length:1-400 offspring:0-60

# blacksmiths
smithy: name=@title village=@city hearth=coal|gas|charcoal anvils:1-9 apprentices:0-12
blacksmith > smithy: full_name=@person guild=Iron_Oath|Red_Ember|Hammer_Ring craft=blades|gates|horseshoes forge_years:1-50 commissions:0-600
ironwork > blacksmith: piece=gate|dagger|hinge|lantern finish=polished|blackened|etched buyer=@person hammer_hours:1-300 asking_price:20-9000

# perfumes
perfumer: full_name=@person schooling=academy|family|self_taught residence=@city formulas:1-400 nose_score:1-100
fragrance > perfumer: fragrance_name=@title top_note=citrus|lavender|pepper|mint bottle=flacon|vial|spray milliliters:5-200 retail_price:15-900
ingredient > fragrance: ingredient_name=musk|amber|vetiver|jasmine extraction=steam|solvent|pressing supplier=@title drops:1-90 purity:50-100

# surfing
beach: name=@title coastline=@region seabed=reef|sand|pebble wave_height:1-12 lifeguards:0-20
surfer > beach: full_name=@person stance=regular|goofy board=longboard|shortboard|foam waves_ridden:0-9000 wipeouts:0-900
surf_contest > beach: title=@title contest_date=@date winner=@person heats:2-30 purse:100-90000

# quilting
quilter: full_name=@person circle=Tuesday_Thimbles|Patch_Guild|Loose_Threads hometown=@city quilts_finished:0-300 needle_years:0-70
quilt > quilter: pattern=log_cabin|star|pinwheel|hexagon backing=flannel|cotton|fleece dominant_color=@color patches:9-2000 stitches:500-90000
quilt_fair > quilt: fairground=@title ribbon=blue|red|white judged_on=@date bids:0-60 hammer_price:20-5000

# skiing
ski_resort: name=@title massif=@region lift_type=gondola|chairlift|cable slopes:1-150 snow_depth:5-500
skier: full_name=@person discipline=slalom|downhill|freestyle sponsor=@title bib_number:1-200 podiums:0-90
ski_run > ski_resort skier: run_name=@title grading=green|blue|black run_date=@date vertical_drop:20-1500 finish_seconds:30-300

# sculpture
sculptor: full_name=@person movement=abstract|figurative|kinetic birthplace=@city exhibitions:0-120 assistants:0-20
statue > sculptor: statue_name=@title stone=marble|granite|basalt|alabaster pose=standing|seated|reclining tonnage:1-90 carving_months:1-60
plaza > statue: plaza_name=@title paving=cobble|slate|brick unveiled_on=@date benches:0-60 daily_visitors:10-9000

# escape rooms
escape_room: room_title=@title scenario=pyramid|spaceship|bank_vault|crypt game_master=@person puzzles:3-30 time_limit:30-120
puzzle > escape_room: clue=cipher|magnet|mirror_maze|riddle prop=chest|compass|telegraph hint_policy=free|paid|none solve_minutes:1-40 hints_given:0-20
squad > escape_room: squad_name=@title leader=@person played_on=@date teammates:2-8 penalty_minutes:0-30

# coral reefs
reef: name=@title ocean=Amber_Sea|Tern_Gulf|Lantern_Bay protection=strict|partial|none coral_cover:1-100 bleaching_index:0-50
diver: full_name=@person certification=rescue|deep|beginner buddy=@person logged_dives:0-4000 air_minutes:20-90
reef_survey > reef diver: visibility=murky|fair|crystal surveyed_on=@date transect=@code fish_counted:0-9000 water_depth:1-60

# bookbinding
bindery: name=@title quarter=@street master=@person presses:1-14 annual_volumes:20-9000
binder > bindery: full_name=@person technique=coptic|saddle|sewn_boards certificate_from=@title pages_sewn:100-90000 blade_cuts:0-40
volume > bindery: volume_title=@title cover=calfskin|cloth|vellum edge=gilt|marbled|plain signatures:4-60 repair_cost:10-3000
"""

TEST = """
# vineyards
vineyard: name=@title appellation=@region winemaker=@person vines:200-90000 slope_degrees:0-45
grape > vineyard: variety=Merlot|Riesling|Tannat|Verdejo trellis=pergola|cordon|gobelet ripeness=early_season|late_season brix:15-30 harvest_tons:1-300
vintage > vineyard: vintage_name=@title cask=oak_cask|steel_vat|amphora cellar_master=@person bottles_filled:100-90000 critic_score:50-100

# beekeeping
apiary: apiary_name=@title meadow=@region beekeeper=@person hives:1-200 clover_hectares:1-90
hive > apiary: hive_mark=@code queen_breed=Carniolan|Buckfast|Caucasian hive_style=skep|top_bar|stacked frames_drawn:2-40 mite_count:0-300
honey_jar > hive: flavor=linden|heather|acacia|chestnut harvested_on=@date seal=wax|cork|foil grams:100-2000 jar_price:3-60

# lighthouses
lighthouse: name=@title headland=@region lamp=fresnel|rotating|led tower_steps:20-400 beam_range:5-40
lightkeeper > lighthouse: keeper_name=@person vigil=first_watch|dog_watch|dawn_watch spouse=@person nights_served:10-9000 logbook_pages:5-900
shipwreck > lighthouse: vessel=@title hull=iron|wooden|composite lost_on=@date survivors:0-200 fathoms:2-90

# archaeology
dig_site: site_name=@title period=bronze_age|iron_age|neolithic excavator=@person trenches:1-60 grid_squares:4-900
artifact > dig_site: artifact_type=amphora|brooch|spindle|figurine substance_found=bone|bronze|ceramic|obsidian catalog_mark=@code burial_depth:5-900 fragments:1-200
carbon_test > artifact: testing_lab=@title protocol=accelerator|liquid_scintillation tested_on=@date estimated_age:200-9000 error_margin:5-300

# volcano observatories
volcano: name=@title island=@region eruption_style=effusive|explosive|dormant crater_width:50-9000 ash_layers:1-200
seismometer > volcano: serial=@code mounting=borehole|surface|seafloor installed_by=@person tremors_logged:0-9000 battery_days:10-900
eruption > volcano: began_on=@date alert_color=@color evacuation_town=@city plume_kilometers:1-40 lava_volume:1-900

# rowing
boathouse: boathouse_name=@title riverbank=@street steward=@person racks:4-120 pontoon_meters:5-90
rower > boathouse: rower_name=@person seat=bow|stroke|middle oar_side=port_side|starboard ergometer_watts:100-600 regattas:0-120
racing_shell > boathouse: shell_name=@title hull_class=eight|quad|scull boatbuilder=@person shell_kilos:14-120 refits:0-12

# ceramics
potter: potter_name=@person glaze_school=raku|celadon|majolica workshop_lane=@street pots_thrown:10-90000 wheel_speed:40-300
kiln > potter: kiln_name=@title firing=wood_fired|gas_fired|electric_coil chamber=updraft|downdraft|tunnel cone_number:1-14 shelf_count:1-20
vessel_order > potter: patron=@person vase_form=bottle|bowl|urn collected_on=@date cracks:0-9 deposit:5-900

# caving
cave: cave_name=@title bedrock=limestone|gypsum|lava entrance=sinkhole|cliff|spring_mouth passage_meters:50-90000 bat_colonies:0-40
caver > cave: caver_name=@person lamp_brand=@title helmet_color=@color rope_meters:10-400 descents:0-900
stalagmite > cave: formation=column|needle|dome tint=@color mapped_on=@date centimeters:2-900 drip_rate:1-60

# clock collecting
horologist: horologist_name=@person guildhall=@title apprenticed_in=@city restorations:0-900 loupe_power:2-40
timepiece > horologist: movement_type=pendulum|quartz|verge casing=walnut|brass|porcelain dial=roman|arabic|enamel jewels:0-40 chimes_per_day:0-96
auction_lot > timepiece: lot_code=@code auctioneer=@person hammer_date=@date opening_bid:20-9000 final_bid:30-90000

# wind farms
wind_farm: name=@title ridge=@region grid_operator=@title turbines:1-200 megawatts:1-900
turbine > wind_farm: turbine_tag=@code gearbox=direct_drive|planetary|hybrid nacelle_maker=@title rotor_diameter:20-240 downtime_hours:0-900
blade_check > turbine: rope_technician=@person defect=erosion|crack|lightning_burn checked_on=@date blade_number:1-3 repair_minutes:5-600

# kite festivals
kite: kite_name=@title sail=ripstop|paper_sail|mylar tail=ribbon_tail|tube_tail|none wingspan:30-900 spars:1-24
kite_flyer: flyer_name=@person homeland=@country bridle_knot=larks_head|bowline|prusik tricks:0-60 line_meters:10-900
kite_duel > kite kite_flyer: duel_date=@date breeze=zephyr|stiff|erratic umpire=@person cuts:0-30 airborne_seconds:5-3600

# tea plantations
tea_estate: estate_name=@title hillside=@region planter=@person shrubs:100-90000 monsoon_days:10-150
tea_leaf > tea_estate: cultivar=Assamica|Sinensis|Yabukita withering=shade|trough|sunlit flush=first_flush|second_flush|autumnal pluckings:1-40 oxidation:0-100
tea_chest > tea_estate: chest_mark=@code broker=@person sealed_on=@date kilos_packed:5-90 auction_price:10-9000
"""

POOLS = {
    "first": "Anna Boris Clara David Elena Felix Greta Hugo Irene Jonas Karin Louis Maria Nils Olga Pedro Rita Simon Tanya Ulrich Vera Walter Xenia Yusuf Zoe Amir Bianca Cyril Daria Emil Fatima Gustav Helga Ivan Julia Kamal Lena Marco Nadia Oscar Petra Ravi Sonia Tomas Ursula Victor Wanda Yara Zeno Alma Bruno Celia Dmitri Esther Farid Gloria Henrik Ingrid Jorge Klara",
    "last": "Abbott Barlow Castle Dawson Ellery Falk Garner Holt Ivers Jarvis Kemper Lowell Marsh Norton Osborn Parrish Quinn Rowan Sutton Thorne Underhill Vance Whitlock Yates Zeller Archer Bishop Corbin Doyle Eastman Fuller Gibbs Hadley Irwin Joyner Keats Larkin Mercer Nash Orwell Pruitt Reeves Stroud Tanner Upton Vogel Weaver York Zimmer Aldous Benson Carver Drake Emery Foster Graves Hobbs Ingram Jessup Knox",
    "city": "Oslo Lisbon Vienna Cairo Lima Quito Boston Denver Kyoto Seoul Hanoi Delhi Milan Turin Porto Ghent Basel Krakow Riga Tallinn Dublin Leeds York Bergen Malaga Nantes Lyon Munich Dresden Prague Sofia Athens Ankara Tbilisi Baku Tunis Rabat Accra Lagos Nairobi Kigali Durban Perth Hobart Auckland Suva Bogota Cusco Santos Rosario Havana Merida Austin Tampa Omaha Boise Salem Halifax Regina Quebec",
    "country": "Norway Portugal Austria Egypt Peru Ecuador Japan Korea Vietnam India Italy Belgium Poland Latvia Estonia Ireland Spain France Germany Bulgaria Greece Turkey Georgia Tunisia Morocco Ghana Nigeria Kenya Rwanda Fiji Colombia Brazil Cuba Mexico Canada Chile",
    "region": "Northmoor Eastvale Lowmarsh Highfell Stonereach Greenholm Saltcoast Ashdown Brackenridge Coldwater Dunmere Elmhurst Foxglen Goldhaven Harrowgate Ironwood Juniper Kingsley Larkspur Mistral Nettlebed Oakshire Pinewood Quarrydale Redcliff Silverlake Thornbury Umberland Westmark Yarrow",
    "adjective": "Silent Golden Broken Distant Crimson Hidden Northern Gentle Hollow Bright Ancient Restless Velvet Frozen Burning Wandering Copper Pale Secret Humble Proud Lonely Merry Bitter Emerald Scarlet Drifting Fallen Rising Sleeping",
    "thing": "River Garden Harbor Mirror Orchard Lantern Meadow Compass Feather Castle Island Thunder Willow Anchor Summit Canyon Falcon Beacon Forest Valley Sparrow Marble Shadow Voyage Kingdom Horizon Cottage Prairie Echo Comet",
    "color": "red blue green yellow black white orange purple silver gold brown grey pink teal ivory maroon navy olive coral beige",
    "language": "English French German Spanish Italian Polish Arabic Hindi Korean Greek Dutch Danish",
    "currency": "euro dollar yen peso rupee krona franc dinar",
    "weekday": "Monday Tuesday Wednesday Thursday Friday Saturday Sunday",
    "season": "spring summer autumn winter",
}
